"""A function applied to every image of a dataset, in parallel and in order."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.decoder import Decoder, Resize
from pytorch_intro.data.ingest.image_folder import ImageFiles, UnlabeledImages

DEFAULT_SIDE = 64  # pixels
ALL_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class DecodeResult:
    """The function's result for one image.

    Attributes:
        value: Return value; None if the image is broken.
        label: Class index; -1 if the image is broken.
        error: Why it is broken, or "".
        is_io_error: Whether the system failed to read the file, which says nothing about the image.
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
            image, label = self.samples[index]
            owns_image = isinstance(self.samples, (ImageFiles, UnlabeledImages))  # other datasets may keep theirs open
            with closing(image) if owns_image else nullcontext():
                return DecodeResult(self.function(image), as_label(label))
        except MemoryError:
            raise
        except Exception as error:  # any kind: PIL raises SyntaxError for a broken PNG
            # A missing file is a dangling link; PIL's own OSErrors have no errno.
            is_io_error = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
            return DecodeResult(None, -1, f"{type(error).__name__}: {error}", is_io_error)


def as_label(label: Any) -> int:
    """Convert a label to int.

    Raises:
        ValueError: if it is not a whole number from 0.
    """
    is_single = isinstance(label, (np.generic, np.ndarray, torch.Tensor)) and torch.as_tensor(label).numel() == 1
    number = label.item() if is_single else label
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise ValueError(f"its label is {label!r}, expected a whole number from 0")
    return number


def parallel_map(
    samples: Any, function: Callable[[Any], Any], rows: range, num_workers: int, title: str = ""
) -> Iterator[list[DecodeResult]]:
    """Yield the function's results for these rows, in order and in chunks.

    Args:
        samples: Dataset of (image, label) pairs.
        function: Function of one image.
        rows: Indices of the samples.
        num_workers: Worker processes.
        title: Title of a progress bar on terminals; "" for no bar.
    """
    is_short = len(rows) < 100  # done before workers would have started
    loader = DataLoader(
        MapDataset(samples, function),
        sampler=rows,
        batch_size=32,
        num_workers=0 if is_short else num_workers,
        collate_fn=list,
        generator=torch.Generator(),  # the global RNG must not depend on whether anything was decoded
    )
    disable = None if title else True  # None: unless on a terminal
    bar = tqdm(desc=title, total=rows.stop, initial=rows.start, unit=" images", disable=disable, leave=False)
    with bar:
        for results in loader:
            yield results
            bar.update(len(results))


def infer_decoder(shapes: Iterable[DecodeResult], image_size: int | list[int] | None, resize: Resize) -> Decoder:
    """Return a decoder for images of these shapes: gray if all are gray, in their common size if they have one.

    Args:
        shapes: Shapes of the images; no more are consumed than needed.
        image_size: Side of a square or (H, W), in pixels; None: the images' common size if its sides are at most 64,
            else 64 x 64.
        resize: Handling of other aspect ratios.

    Raises:
        UserError: if not one image can be read.
    """
    channels, sizes, error = 0, set(), "it is empty"
    for shape in shapes:
        if shape.error:
            error = shape.error
            continue
        channels = max(channels, shape.value[0])
        sizes.add(shape.value[1:])
        if channels > 1 and (image_size or len(sizes) > 1):
            break
    if not sizes:
        raise UserError(f"data: no image can be read ({error}); fix the images")
    return Decoder(choose_size(image_size, sizes), channels, resize)


def choose_size(image_size: int | list[int] | None, sizes: set[tuple[int, int]]) -> tuple[int, int]:
    if isinstance(image_size, list):
        return image_size[0], image_size[1]
    if image_size:
        return image_size, image_size
    smallest = min(sizes)
    is_common = len(sizes) == 1 and max(smallest) <= DEFAULT_SIDE
    return smallest if is_common else (DEFAULT_SIDE, DEFAULT_SIDE)
