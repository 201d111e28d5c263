"""Every image of a data set looked at once, by worker processes, in order."""

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

from pytorch_intro.decoder import Decoder, Resize
from pytorch_intro.errors import UserError
from pytorch_intro.image_files import ImageFiles, UnlabelledImages

DEFAULT_SIDE = 64  # pixels
ALL_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Seen:
    """What was made of one image.

    Attributes:
        value: What the work gave; None if the image is broken.
        label: The number of its class.
        error: Why it is broken, or "".
        by_system: Whether the system could not read its file, which says nothing about the image.
    """

    value: Any
    label: int
    error: str = ""
    by_system: bool = False


class Work(Dataset[Seen]):
    """Applies a function to the images of a data set; `samples[i]` is an image of any kind and its label."""

    def __init__(self, samples: Any, function: Callable[[Any], Any]) -> None:
        self.samples = samples
        self.function = function

    def __getitem__(self, index: int) -> Seen:
        try:
            image, label = self.samples[index]
            is_own = isinstance(self.samples, (ImageFiles, UnlabelledImages))  # others may keep theirs open
            with closing(image) if is_own else nullcontext():
                return Seen(self.function(image), as_label(label))
        except MemoryError:
            raise
        except Exception as error:  # of any kind: a broken PNG is a SyntaxError to PIL
            # A missing file is a link to nothing; PIL's own OSErrors have no number.
            by_system = isinstance(error, OSError) and error.errno not in (None, errno.ENOENT)
            return Seen(None, -1, f"{type(error).__name__}: {error}", by_system)


def as_label(label: Any) -> int:
    """A label as a plain number.

    Raises:
        ValueError: if it is none, or below 0.
    """
    is_single = isinstance(label, (np.generic, np.ndarray, torch.Tensor)) and torch.as_tensor(label).numel() == 1
    number = label.item() if is_single else label
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise ValueError(f"its label is {label!r}, where a whole number from 0 is expected")
    return number


def seen(
    samples: Any, function: Callable[[Any], Any], rows: range, num_workers: int, title: str = ""
) -> Iterator[list[Seen]]:
    """The function's results on these rows, in order, some at a time; with a bar on a terminal if it has a title."""
    few = len(rows) < 100  # which are done before workers would have begun
    loader = DataLoader(
        Work(samples, function),
        sampler=rows,
        batch_size=32,
        num_workers=0 if few else num_workers,
        collate_fn=list,
        generator=torch.Generator(),  # so that nothing is taken from the global one, whether there is work or not
    )
    silent = None if title else True  # None: unless on a terminal
    bar = tqdm(desc=title, total=rows.stop, initial=rows.start, unit=" images", disable=silent, leave=False)
    with bar:
        for results in loader:
            yield results
            bar.update(len(results))


def suitable_decoder(heads: Iterable[Seen], image_size: int | list[int] | None, resize: Resize) -> Decoder:
    """A decoder for images of these shapes: gray if all are gray, in their own size if they have one in common.

    Args:
        heads: Their shapes; no more of them are looked at than it takes.
        image_size: A side of a square or (H, W), in pixels; None: the images' own size if all have the same, not above
            64 a side, else 64 x 64.

    Raises:
        UserError: if not one image can be read.
    """
    channels, sizes, error = 0, set(), "there is none"
    for head in heads:
        if head.error:
            error = head.error
            continue
        channels = max(channels, head.value[0])
        sizes.add(head.value[1:])
        if channels > 1 and (image_size or len(sizes) > 1):
            break
    if not sizes:
        raise UserError(f"data: no image can be read: {error}")
    return Decoder(chosen_size(image_size, sizes), channels, resize)


def chosen_size(image_size: int | list[int] | None, sizes: set[tuple[int, int]]) -> tuple[int, int]:
    if isinstance(image_size, list):
        return image_size[0], image_size[1]
    if image_size:
        return image_size, image_size
    own = min(sizes)
    return own if len(sizes) == 1 and max(own) <= DEFAULT_SIDE else (DEFAULT_SIDE, DEFAULT_SIDE)
