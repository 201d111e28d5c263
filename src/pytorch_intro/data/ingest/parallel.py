"""A function applied to every image of a dataset, in parallel and in order."""

import errno
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from tqdm import tqdm

from pytorch_intro.common.cpu import usable_cores
from pytorch_intro.data.ingest.image_folder import ImageFiles, UnlabeledImages
from pytorch_intro.data.ingest.workers import WorkerDataLoader, WorkerError, init_worker

log = logging.getLogger(__name__)

ALL_CORES = usable_cores()


@dataclass
class DecodeResult:
    """The function's result for one image.

    Attributes:
        value: Return value; None if the image is broken.
        label: Class index; -1 if the image is broken.
        error: Why it is broken, or "".
        is_io_error: Whether the system failed to read the file, not the image that is broken.
    """

    value: Any
    label: int
    error: str = ""
    is_io_error: bool = False


class MapDataset(Dataset[DecodeResult]):
    """Applies a function to the images of a dataset of (image, label) pairs."""

    def __init__(self, samples: Any, function: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.function = function

    def __getitem__(self, index: int) -> DecodeResult:
        try:
            image, label = unpack(self.samples[index])
            owns_image = isinstance(self.samples, (ImageFiles, UnlabeledImages))  # other datasets may keep theirs open
            with closing(image) if owns_image else nullcontext():
                return DecodeResult(self.function(image), to_label(label))
        except MemoryError:
            raise
        except Exception as error:  # any kind: PIL raises SyntaxError for a broken PNG
            # A missing file is a dangling link; PIL's own OSErrors have no errno.
            is_io_error = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
            return DecodeResult(None, -1, explain_decoding(error), is_io_error)


def explain_decoding(error: Exception) -> str:
    """Return why an image cannot be decoded, in words where Pillow has none."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a format that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels; make it smaller"
    return f"{type(error).__name__}: {error}"


def unpack(sample: Any) -> tuple[Any, Any]:
    """Return the image and the label of a sample; ValueError if it is not a pair."""
    if not isinstance(sample, (tuple, list, np.ndarray)):
        raise ValueError(f"the sample is a {type(sample).__name__}, expected a pair (image, label)")
    if len(sample) != 2:
        raise ValueError(f"the sample has {len(sample)} values, expected a pair (image, label)")
    return sample[0], sample[1]


def to_label(label: Any) -> int:
    """Convert a label to int; ValueError if it is not a non-negative integer."""
    is_single = isinstance(label, (np.generic, np.ndarray, torch.Tensor)) and torch.as_tensor(label).numel() == 1
    number = label.item() if is_single else label
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise ValueError(f"its label is {label!r}, expected a non-negative integer")
    return number


def parallel_map(
    samples: Any, function: Callable[[Any], Any], rows: range, num_workers: int, title: str = ""
) -> Iterator[list[DecodeResult]]:
    """Yield the function's results for these rows of a dataset of (image, label) pairs, in order and in chunks.

    The title is that of a progress bar on terminals; "" for no bar.
    """
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow raises at twice that size
    is_short = len(rows) < 100  # done before workers would have started
    chunks = iterate(MapDataset(samples, function), rows, 0 if is_short else num_workers)
    disable = None if title else True  # None: unless on a terminal
    with tqdm(desc=title, total=rows.stop, initial=rows.start, unit=" images", disable=disable, leave=False) as bar:
        for results in chunks:
            yield results
            bar.update(len(results))


def iterate(dataset: MapDataset, rows: range, num_workers: int) -> Iterator[list[DecodeResult]]:
    """Yield the results for these rows in chunks, from this process if workers cannot be started."""
    loader = WorkerDataLoader(
        dataset,
        sampler=rows,
        batch_size=32,
        num_workers=num_workers,
        collate_fn=list,
        generator=torch.Generator(),  # the global RNG must not depend on whether anything was decoded
        worker_init_fn=init_worker,
    )
    try:
        return iter(loader)
    except WorkerError as error:
        log.warning("data: decoding in one process, since no other can be started (%s)", error.__cause__)
        return iterate(dataset, rows, num_workers=0)
