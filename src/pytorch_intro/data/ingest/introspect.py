"""Facts about a dataset that can be found from outside: arrays, files, names, shapes, and randomness."""

import hashlib
import itertools
import logging
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import VisionDataset
from torchvision.datasets.vision import StandardTransform

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.data.dataset import BatchedDataset, ImageSubset, InMemoryImageDataset, evenly_spaced_indices
from pytorch_intro.data.ingest.decoder import (
    Decoder,
    Interpolation,
    Resize,
    border_brightness,
    get_bit_depth,
    get_shape,
    to_array,
)
from pytorch_intro.data.ingest.find_files import walk_files
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.parallel import ALL_CORES, DecodeResult, MapDataset, parallel_map, to_label, unpack

log = logging.getLogger(__name__)

MAX_CLASSES = 1_000_000  # a larger label is probably an identifier


def dataset_length(dataset: Any) -> int:
    """Return the number of samples; UserError if len() fails."""
    try:
        return len(dataset)
    except Exception as error:  # any kind: it may be the user's class
        raise UserError(
            f"data: {type(dataset).__name__} has no valid length ({type(error).__name__}: {first_lines(error)}); it "
            "needs a method __len__ that returns its size"
        ) from error


def get_attribute(dataset: Any, *names: str) -> Any:
    """Return the first of these attributes that the dataset has, or None; UserError if it is a failing property."""
    for name in names:
        try:
            return getattr(dataset, name)
        except AttributeError:
            continue
        except Exception as error:  # any kind: it may be the user's class
            raise UserError(
                f"data: {type(dataset).__name__}.{name} fails with {type(error).__name__}: {first_lines(error)}; fix it"
            ) from error
    return None


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
    pixels, targets = get_attribute(dataset, "data"), get_attribute(dataset, "targets", "labels")
    if get_attribute(dataset, "transform") or get_attribute(dataset, "target_transform"):
        return None
    if not isinstance(pixels, (Tensor, np.ndarray)) or pixels.ndim not in (3, 4) or len(pixels) != len(dataset):
        return None
    try:
        images, labels = torch.as_tensor(pixels), torch.as_tensor(targets)
    except (ValueError, TypeError, RuntimeError):
        return None
    labels = labels[:, 0] if labels.ndim == 2 else labels  # QMNIST has more columns
    if images.dtype != torch.uint8 or labels.shape != (len(images),) or labels.min() < 0:
        return None
    for layout in [images.unsqueeze(1)] if images.ndim == 3 else [images, images.permute(0, 3, 1, 2)]:
        if all(sample_matches(dataset, i, layout[i], labels[i]) for i in evenly_spaced_indices(len(dataset))):
            return InMemoryImageDataset(layout.contiguous(), labels.long(), class_names(dataset, labels))
    return None


def sample_matches(dataset: Any, row: int, pixels: Tensor, label: Tensor) -> bool:
    """Return whether a sample consists of these pixels and this label."""
    try:
        image, its_label = unpack(dataset[row])
        array = to_array(image if isinstance(image, (Tensor, np.ndarray)) else np.asarray(image))
        return np.array_equal(array, pixels.numpy()) and to_label(its_label) == int(label)
    except Exception:  # not a valid sample; reported when it is read
        return False


def class_names(dataset: Any, targets: Tensor) -> list[str]:
    """Return the dataset's class names, made unique; the class indices as text if it has none.

    Raises:
        UserError: if a label is too large to be a class index.
    """
    count = int(targets.max()) + 1
    if count > MAX_CLASSES:
        raise UserError(
            f"data: {type(dataset).__name__} has the label {count - 1}, too large for a class index; use labels "
            f"numbered from 0, below {MAX_CLASSES:,}"
        )
    given = get_attribute(dataset, "classes", "categories")
    if not isinstance(given, (list, tuple, np.ndarray)) or len(given) < count:
        return [str(number) for number in range(count)]
    names = [str(name[0] if name and isinstance(name, tuple) else name) for name in given]  # ImageNet's are synonyms
    for name in names:
        if re.search(r"[\0-\x1f\x7f\ud800-\udfff]", name):
            raise UserError(f"data: the class name {name!r} has a line break or is not UTF-8; rename the class")
    first = {name: number for number, name in reversed(list(enumerate(names)))}  # ImageNet has two classes crane
    return [name if first[name] == number else f"{name} ({number})" for number, name in enumerate(names)]


def iter_files(dataset: VisionDataset) -> Iterator[str]:
    """Yield the files of a torchvision dataset, relative to its root: those it lists, or all in its folders."""
    if samples := list_samples(dataset):
        yield from (os.path.relpath(sample[0], dataset.root) for sample in samples)
        return
    root = Path(dataset.root).resolve()
    paths = [Path(value).resolve() for value in vars(dataset).values() if isinstance(value, (str, Path))]
    folders = {path for path in paths if root in path.parents and path.is_dir()} or {root}
    for folder in sorted(folders):
        yield from (os.path.relpath(folder / file, root) for file in sorted(walk_files(folder)))


def list_samples(dataset: Any) -> list[Any]:
    """Return the (file, label) pairs that some datasets of torchvision list."""
    samples = get_attribute(dataset, "samples", "_samples") if isinstance(dataset, VisionDataset) else None
    return samples if isinstance(samples, list) else []


def listed_labels(dataset: Any) -> list[int] | None:
    """Return the labels that some datasets of torchvision list; None if there are none, or they are transformed."""
    is_plain = isinstance(get_attribute(dataset, "transforms"), StandardTransform | None)
    labels = [sample[1] for sample in list_samples(dataset)]
    if not labels or not is_plain or dataset.target_transform or not all(isinstance(label, int) for label in labels):
        return None
    return labels


def sample_name(dataset: Any, row: int) -> str:
    """Return the path of an image, or its index in the dataset."""
    if isinstance(dataset, ImageFiles):
        return os.path.join(dataset.root, dataset.paths[row])  # noqa: PTH118, as the user wrote it
    samples = list_samples(dataset)
    return str(samples[row][0]) if samples else f"data: {type(dataset).__name__}[{row}]"


def infer_decoder(
    dataset: Any,
    decode_size: int | list[int] | None,
    resize: Resize,
    interpolation: Interpolation = "bilinear",
    default_size: int = 64,
) -> Decoder:
    """Return a decoder for the images: gray if all are gray, in their common size if they have one.

    Without a decode_size, images of different sizes, or larger than default_size, become squares of that side. The bit
    depth is the largest that a 16-bit image uses.

    Raises:
        UserError: if not one image can be read.
    """
    channels, sizes, bit_depth, error = 0, set(), 0, ""
    for result in iter_formats(dataset):
        if result.error:
            error = error or result.error
            continue
        shape, bits = result.value
        channels, bit_depth = max(channels, shape[0]), max(bit_depth, bits)
        sizes.add(shape[1:])
        if channels > 1 and not bit_depth and (decode_size or len(sizes) > 1):
            break
    if not sizes:
        has_files = isinstance(dataset, ImageFiles) or bool(list_samples(dataset))
        remedy = "fix the images, or convert them to JPEG" if has_files else "fix its __getitem__"
        raise UserError(f"{sample_name(dataset, 0)}: cannot be read, like all others tried ({error}); {remedy}")
    if decode_size:
        size = decode_size if isinstance(decode_size, list) else [decode_size] * 2
        largest = tuple(map(max, zip(*sizes, strict=True)))
        if all(2 * side <= new for side, new in zip(largest, size, strict=True)):
            original, new = (" x ".join(map(str, sides)) for sides in (largest, size))
            log.info("data: enlarging images of %s to %s; a smaller data.image_size is faster", original, new)
        return Decoder((size[0], size[1]), channels, resize, bit_depth or 16, interpolation)
    smallest = min(sizes)
    is_common = len(sizes) == 1 and max(smallest) <= default_size
    common = smallest if is_common else (default_size, default_size)
    return Decoder(common, channels, resize, bit_depth or 16, interpolation)


def iter_formats(dataset: Any) -> Iterator[DecodeResult]:
    """Yield shape and bit depth of all image files, or of some samples where each has to be decoded for it."""
    if isinstance(dataset, ImageFiles):
        for results in parallel_map(dataset, get_format, range(len(dataset)), ALL_CORES):
            yield from results
    else:
        yield from (MapDataset(dataset, get_format)[row] for row in evenly_spaced_indices(len(dataset)))


def get_format(image: Any) -> tuple[tuple[int, int, int], int]:
    """Return shape and bit depth; only 16-bit images are decoded for it."""
    return get_shape(image), get_bit_depth(image)


def describe_images(train_set: ImageSubset) -> dict[str, Any]:
    """Return the classes and the size of the training images, and what identifies them, as plain values.

    border is the median brightness of some images' borders, in [0, 1]; trained_on is a digest of the split, and files
    one of the paths, relative to the folder of the images; None without files.
    """
    images, _ = train_set.__getitems__(evenly_spaced_indices(len(train_set)))
    rows = train_set.indices.numpy().tobytes() + train_set.targets.numpy().tobytes()
    return {
        "classes": list(train_set.dataset.classes),
        "decoded_size": list(train_set.dataset.image_shape[1:]),
        "border": statistics.median(map(border_brightness, images.numpy())),
        "trained_on": hashlib.sha256(rows).hexdigest()[:16],
        "files": hash_paths(train_set),
        "num_images": len(train_set),
    }


def hash_paths(subset: ImageSubset) -> str | None:
    """Return a digest of the paths of a subset's files; None if its images are not known to be files."""
    paths = subset.dataset.paths
    if paths is None:
        return None
    is_chosen = np.zeros(len(paths), dtype=bool)
    is_chosen[subset.indices.numpy()] = True
    digest = hashlib.sha256()
    for path in itertools.compress(paths, is_chosen.tolist()):  # one by one: there may be millions
        name = Path(path).name if path.startswith("/") else path  # the folder may be moved
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def strip_addresses(text: str) -> str:
    """Remove memory addresses from a repr."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
