"""Facts about a dataset that can be found from outside: arrays, files, names, and whether its samples are random."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.data.dataset import BatchedDataset, InMemoryImageDataset
from pytorch_intro.data.ingest.decoder import Decoder, as_array, shape_of
from pytorch_intro.data.ingest.find_files import files_below
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.parallel import ALL_CORES, DecodeResult, MapDataset, as_label, parallel_map

MAX_CLASSES = 1_000_000  # a larger label is probably an identifier


def dataset_length(dataset: Any) -> int:
    """Return the number of samples.

    Raises:
        UserError: if len() fails.
    """
    try:
        return len(dataset)
    except Exception as error:  # any kind: it may be the user's class
        name = type(dataset).__name__
        raise UserError(
            f"data: len() of {name} fails with {type(error).__name__}: {first_lines(error)}; give it a method __len__"
        ) from error


def is_nondeterministic(dataset: Any, decoder: Decoder) -> bool:
    """Return whether some images differ between two accesses."""
    rows = evenly_spaced_indices(len(dataset))
    first, second = ([MapDataset(dataset, decoder)[row] for row in rows] for _ in range(2))
    return not all(np.array_equal(one.value, other.value) for one, other in zip(first, second, strict=True))


def try_in_memory(dataset: Any) -> BatchedDataset | None:
    """Return the content of a dataset with arrays like torchvision's (data, targets); None if it has none.

    Some samples are compared with the arrays, so that transforms and unusual layouts are not bypassed.
    """
    if isinstance(dataset, BatchedDataset):
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
        if all(sample_matches(dataset[i], layout[i], labels[i]) for i in evenly_spaced_indices(len(dataset))):
            return InMemoryImageDataset(layout.contiguous(), labels.long(), class_names(dataset, labels))
    return None


def sample_matches(sample: Any, pixels: Tensor, label: Tensor) -> bool:
    """Return whether a sample consists of these pixels and this label."""
    try:
        image, its_label = sample
        array = as_array(image if isinstance(image, (Tensor, np.ndarray)) else np.asarray(image))
        return np.array_equal(array, pixels.numpy()) and as_label(its_label) == int(label)
    except (ValueError, TypeError):  # not a valid sample; reported when it is read
        return False


def class_names(dataset: Any, targets: Tensor) -> list[str]:
    """Return the dataset's class names; the class indices as text if it has none.

    Raises:
        UserError: if a label is too large to be a class index.
    """
    names = getattr(dataset, "classes", getattr(dataset, "categories", None))
    names = names if isinstance(names, (list, tuple, np.ndarray)) else []
    known = [str(name[0]) if isinstance(name, tuple) else str(name) for name in names]  # ImageNet's are synonyms
    count = int(targets.max()) + 1
    if count > MAX_CLASSES:
        raise UserError(
            f"data: {type(dataset).__name__} has the label {count - 1}; classes are numbered from 0, below "
            f"{MAX_CLASSES:,}"
        )
    return known if len(known) >= count else [str(number) for number in range(count)]


def files_of(dataset: VisionDataset) -> Iterator[str]:
    """Yield the files of a torchvision dataset, relative to its root: those it lists, or all in its folders."""
    samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    if isinstance(samples, list):
        yield from (os.path.relpath(sample[0], dataset.root) for sample in samples)
        return
    root = Path(dataset.root).resolve()
    paths = [Path(value).resolve() for value in vars(dataset).values() if isinstance(value, (str, Path))]
    folders = {path for path in paths if root in path.parents and path.is_dir()} or {root}
    for folder in sorted(folders):
        yield from (os.path.relpath(folder / file, root) for file in sorted(files_below(folder)))


def sample_name(dataset: Any, row: int) -> str:
    """Return the path of an image, or its index in the dataset."""
    if isinstance(dataset, ImageFiles):
        return os.path.join(dataset.root, dataset.paths[row])  # noqa: PTH118, as the user wrote it
    samples = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    return str(samples[row][0]) if isinstance(samples, list) else f"{type(dataset).__name__}[{row}]"


def iter_image_shapes(dataset: Any) -> Iterator[DecodeResult]:
    """Yield the shapes of all image files, or of some samples where each has to be decoded for it."""
    if isinstance(dataset, ImageFiles):
        for results in parallel_map(dataset, shape_of, range(len(dataset)), ALL_CORES):
            yield from results
    else:
        yield from (MapDataset(dataset, shape_of)[row] for row in evenly_spaced_indices(len(dataset)))


def evenly_spaced_indices(total: int, count: int = 64) -> list[int]:
    """Return up to `count` evenly spaced indices in [0, total), endpoints included."""
    return sorted({round(step * (total - 1) / max(1, count - 1)) for step in range(count)})


def strip_addresses(text: str) -> str:
    """Remove memory addresses from a repr."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
