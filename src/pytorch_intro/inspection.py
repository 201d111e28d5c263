"""What can be told of a data set from outside: its arrays, files, names, and whether its images stay the same."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from pytorch_intro.dataset import ImageDataset, Images
from pytorch_intro.decoder import Decoder, as_array, shape_of
from pytorch_intro.decoding import ALL_CORES, Seen, Work, as_label, seen
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.file_search import files_below
from pytorch_intro.image_files import ImageFiles

MOST_CLASSES = 1_000_000  # a label beyond is rather an identifier


def length_of(dataset: Any) -> int:
    """How many images it has.

    Raises:
        UserError: if it does not tell.
    """
    try:
        return len(dataset)
    except Exception as error:  # of any kind: it may be the user's own class
        name = type(dataset).__name__
        raise UserError(
            f"data: {name} does not tell how many images it has: len() of it ends in {type(error).__name__}: "
            f"{one_line(error)}; give it a method __len__"
        ) from error


def varies(dataset: Any, decoder: Decoder) -> bool:
    """Whether some of the images are others when they are asked for again."""
    rows = spread(len(dataset))
    first, second = ([Work(dataset, decoder)[row] for row in rows] for _ in range(2))
    return not all(np.array_equal(one.value, other.value) for one, other in zip(first, second, strict=True))


def ready_arrays(dataset: Any) -> Images | None:
    """The content of a data set that holds all its images in memory as torchvision's do; None if it does not.

    Compared with what the data set itself gives for some images, so that transforms and odd layouts are not passed by.
    """
    if isinstance(dataset, Images):
        return dataset
    pixels, targets = getattr(dataset, "data", None), getattr(dataset, "targets", getattr(dataset, "labels", None))
    if not isinstance(pixels, (Tensor, np.ndarray)) or targets is None or len(pixels) != len(dataset):
        return None
    if getattr(dataset, "transform", None) or getattr(dataset, "target_transform", None):
        return None
    try:
        images, labels = torch.as_tensor(pixels), torch.as_tensor(targets)
        labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST has more columns
    except (ValueError, TypeError, RuntimeError):
        return None
    if images.dtype != torch.uint8 or images.ndim not in (3, 4):
        return None
    for layout in [images.unsqueeze(1)] if images.ndim == 3 else [images, images.permute(0, 3, 1, 2)]:
        if all(agrees(dataset[i], layout[i], labels[i]) for i in spread(len(dataset))):
            return ImageDataset(layout.contiguous(), labels.long(), class_names(dataset, labels))
    return None


def agrees(sample: Any, pixels: Tensor, label: Tensor) -> bool:
    """Whether an image and label of a data set are these."""
    try:
        image, its_label = sample
        array = as_array(image if isinstance(image, (Tensor, np.ndarray)) else np.asarray(image))
        return np.array_equal(array, pixels.numpy()) and as_label(its_label) == int(label)
    except (ValueError, TypeError):  # it is something else; to be told when it is read
        return False


def class_names(dataset: Any, targets: Tensor) -> list[str]:
    """The data set's names of its classes; their numbers if it has none.

    Raises:
        UserError: if a label is no number of a class.
    """
    names = getattr(dataset, "classes", getattr(dataset, "categories", None))
    names = names if isinstance(names, (list, tuple, np.ndarray)) else []
    known = [str(name[0]) if isinstance(name, tuple) else str(name) for name in names]  # ImageNet's are synonyms
    count = int(targets.max()) + 1
    if count > MOST_CLASSES:
        raise UserError(f"data: {type(dataset).__name__} has the label {count - 1}; classes are numbered from 0 on")
    return known if len(known) >= count else [str(number) for number in range(count)]


def files_of(dataset: VisionDataset) -> Iterator[str]:
    """The files of one of torchvision's data sets, from its root on: those that it lists, or all in its folders."""
    samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    if isinstance(samples, list):
        yield from (os.path.relpath(sample[0], dataset.root) for sample in samples)
        return
    root = Path(dataset.root).resolve()
    paths = [Path(value).resolve() for value in vars(dataset).values() if isinstance(value, (str, Path))]
    folders = {path for path in paths if root in path.parents and path.is_dir()} or {root}
    for folder in sorted(folders):
        yield from (os.path.relpath(folder / file, root) for file in sorted(files_below(folder)))


def name_of(dataset: Any, row: int) -> str:
    """What an image is called: its path, or its place in the data set."""
    if isinstance(dataset, ImageFiles):
        return os.path.join(dataset.root, dataset.paths[row])  # noqa: PTH118, as the user has written it
    samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    return str(samples[row][0]) if isinstance(samples, list) else f"{type(dataset).__name__}[{row}]"


def heads(dataset: Any) -> Iterator[Seen]:
    """The shapes of all files, by worker processes, or of some images where each has to be decoded for it."""
    if isinstance(dataset, ImageFiles):
        for results in seen(dataset, shape_of, range(len(dataset)), ALL_CORES):
            yield from results
    else:
        yield from (Work(dataset, shape_of)[row] for row in spread(len(dataset)))


def spread(total: int, count: int = 64) -> list[int]:
    """Up to so many numbers from 0 to total - 1, evenly spread, the first and the last among them."""
    return sorted({round(step * (total - 1) / max(1, count - 1)) for step in range(count)})


def without_addresses(text: str) -> str:
    """What objects are shown as, without where they happen to lie in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
