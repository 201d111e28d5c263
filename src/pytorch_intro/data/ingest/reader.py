"""Reads any dataset into images of one shape: from its arrays, from a cache, or on demand."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.datasets import DatasetFolder, VisionDataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import host_memory_limit
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.dataset import BatchedDataset, InMemoryImageDataset
from pytorch_intro.data.ingest.cache import ImageCache
from pytorch_intro.data.ingest.decoder import Decoder, Resize
from pytorch_intro.data.ingest.find_files import fingerprint, is_searched
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.introspect import (
    class_names,
    dataset_length,
    evenly_spaced_indices,
    files_of,
    is_nondeterministic,
    iter_image_shapes,
    sample_name,
    strip_addresses,
    try_in_memory,
)
from pytorch_intro.data.ingest.parallel import ALL_CORES, infer_decoder, parallel_map
from pytorch_intro.data.ingest.uncached import UncachedDataset

log = logging.getLogger(__name__)

CACHE_VERSION = 1  # bump when the decoder output changes


@dataclass
class DatasetReader:
    """Reads datasets of single images into a BatchedDataset of one shape.

    Args:
        image_size: Side of a square or (H, W), in pixels; None: the images' common size.
        resize: Handling of other aspect ratios.
        cache_dir: Folder of decoded images; None: .cache in the dataset's root, or in the project's data folder for
            torchvision's ImageFolder.
        in_memory: Whether to load decoded images into memory; None: if they take less than an eighth of it.
        skip_broken: Whether to skip images that cannot be decoded.
        num_workers: Processes that load the images of a user's dataset.
        target_transform: New class name for each class name.
        channels: Number of channels; None: that of the first dataset. All others get the shape of the first.
    """

    image_size: int | list[int] | None
    resize: Resize
    cache_dir: str | None
    in_memory: bool | None
    skip_broken: bool
    num_workers: int
    target_transform: Mapping[str, str | int] | None = None
    channels: int | None = None

    def read(self, dataset: Any, cache_key: str = "") -> tuple[BatchedDataset, Tensor]:
        """Return the images, and the indices (N,) of those that are not broken.

        Args:
            dataset: Dataset of (image, label) pairs.
            cache_key: Class and arguments of a torchvision dataset, which identify its images.

        Raises:
            UserError: if it does not yield images and labels, or they cannot be cached.
        """
        if not dataset_length(dataset):
            raise UserError(f"data: {type(dataset).__name__} has no images; add some")
        images, rows = self._dispatch(dataset, cache_key)
        self.channels, *self.image_size = images.image_shape
        if self.target_transform:
            relabel(images, self.target_transform)
        return images, rows

    def _dispatch(self, dataset: Any, cache_key: str) -> tuple[BatchedDataset, Tensor]:
        if (ready := try_in_memory(dataset)) and self.matches_requested_shape(ready):
            return ready, torch.arange(len(ready))
        if isinstance(dataset, ImageFiles) or self.reads_files(dataset):
            return self.read_files(dataset, cache_key)
        return self.read_samples(dataset)

    def reads_files(self, dataset: Any) -> bool:
        """Return whether this torchvision dataset always gives the same image for a file."""
        if not isinstance(dataset, VisionDataset) or dataset.root is None:
            return False
        return not dataset.transforms or not is_nondeterministic(dataset, self.decoder(dataset))

    def matches_requested_shape(self, images: BatchedDataset) -> bool:
        """Return whether these images have the requested size and channels."""
        size = self.image_size if isinstance(self.image_size, list) else [self.image_size] * 2
        has_channels = not self.channels or images.image_shape[0] == self.channels
        return has_channels and (not self.image_size or list(images.image_shape[1:]) == size)

    def read_files(self, dataset: Any, cache_key: str) -> tuple[BatchedDataset, Tensor]:
        """Read image files through a cache of decoded images."""
        cache = ImageCache(
            self.cache_folder(dataset), self.cache_subject(dataset, cache_key), self.cache_content(dataset)
        )
        cache.build(dataset, lambda: self.decoder(dataset), ALL_CORES, self.broken_image_handler(dataset))
        broken = cache.broken()
        self.report_broken(dataset, broken)
        targets = torch.tensor(dataset.targets) if isinstance(dataset, ImageFiles) else cache.labels()
        classes = class_names(dataset, targets)
        images = cache.open(targets, classes, in_memory=self.fits_in_memory(cache.size()))
        return images, indices_except(broken, len(images))

    def cache_folder(self, dataset: Any) -> Path:
        if self.cache_dir:
            if isinstance(dataset, ImageFiles) and is_searched(Path(self.cache_dir), Path(dataset.root)):
                raise UserError(
                    f"data.cache_dir={self.cache_dir}: lies in data.root={dataset.root} and would be read as images; "
                    "use another folder"
                )
            return Path(self.cache_dir)
        # torchvision's ImageFolder takes any folder in its root for a class.
        return (PROJECT / "data" if isinstance(dataset, DatasetFolder) else Path(dataset.root)) / ".cache"

    def cache_subject(self, dataset: Any, cache_key: str) -> str:
        """Return the dataset and the shape that it is decoded to."""
        which = dataset.origin if isinstance(dataset, ImageFiles) else strip_addresses(f"{cache_key} {dataset!r}")
        return f"{CACHE_VERSION} {which} {self.channels} {self.image_size} {self.resize}"

    def cache_content(self, dataset: Any) -> str:
        """Return a digest that changes with the files."""
        if isinstance(dataset, ImageFiles):
            return dataset.fingerprint()
        return f"{torchvision.__version__} {fingerprint(Path(dataset.root).resolve(), files_of(dataset))}"

    def read_samples(self, dataset: Any) -> tuple[BatchedDataset, Tensor]:
        """Read a dataset without known files: once into memory, or on demand if it is random or too large."""
        decoder = self.decoder(dataset)
        reason = self.reason_not_cacheable(dataset, decoder)
        shape = (0 if reason else len(dataset), decoder.channels, *decoder.size)
        images = torch.empty(shape, dtype=torch.uint8)
        targets = torch.zeros(len(dataset), dtype=torch.int64)
        broken = {}
        title = f"reading {type(dataset).__name__}"
        handle_broken = self.broken_image_handler(dataset)
        chunks = parallel_map(dataset, discard if reason else decoder, range(len(dataset)), self.num_workers, title)
        for row, result in enumerate(result for chunk in chunks for result in chunk):
            targets[row] = result.label
            if result.error:
                handle_broken(row, result.error, result.is_io_error)
                broken[row] = result.error
            elif not reason:
                images[row] = torch.from_numpy(result.value)
        self.report_broken(dataset, broken)
        classes = class_names(dataset, targets)
        if reason:
            log.info("data: %s: loading images on the fly every epoch (%s)", type(dataset).__name__, reason)
            return UncachedDataset(dataset, decoder, targets, classes), indices_except(broken, len(dataset))
        return InMemoryImageDataset(images, targets, classes), indices_except(broken, len(dataset))

    def decoder(self, dataset: Any) -> Decoder:
        """Return the decoder to the requested shape, or to one inferred from the images."""
        if self.channels and isinstance(self.image_size, list):
            return Decoder((self.image_size[0], self.image_size[1]), self.channels, self.resize)
        decoder = infer_decoder(iter_image_shapes(dataset), self.image_size, self.resize)
        if not isinstance(dataset, ImageFiles) and len(dataset) > len(rows := evenly_spaced_indices(len(dataset))):
            size = f"{decoder.size[0]} x {decoder.size[1]}"
            log.info(f"data: {decoder.channels} x {size} pixels, inferred from {len(rows)} of {len(dataset):,} images")
        return decoder

    def reason_not_cacheable(self, dataset: Any, decoder: Decoder) -> str:
        """Return why the images are not loaded into memory; "" if they are."""
        if not self.fits_in_memory(len(dataset) * decoder.channels * decoder.size[0] * decoder.size[1]):
            return "images exceed an eighth of the memory" if self.in_memory is None else "data.in_memory=false"
        return "samples are random" if is_nondeterministic(dataset, decoder) else ""

    def fits_in_memory(self, size: int) -> bool:
        """Return whether to load this many bytes into memory."""
        if self.in_memory is not None:
            return self.in_memory
        return size < host_memory_limit() / 8  # room for a copy in each of 8 processes

    def broken_image_handler(self, dataset: Any) -> Callable[[int, str, bool], None]:
        """Return a function of (row, error, is_io_error) that raises unless the broken image is to be skipped."""

        def handle(row: int, error: str, is_io_error: bool = False) -> None:
            if is_io_error:
                raise UserError(f"{sample_name(dataset, row)} cannot be read ({error}); fix that, then rerun")
            if not self.skip_broken:
                raise UserError(
                    f"{sample_name(dataset, row)} cannot be read ({error}); fix or remove it, or skip all broken "
                    "images: data.skip_broken=true"
                )

        return handle

    def report_broken(self, dataset: Any, broken: dict[int, str]) -> None:
        """Log the broken images that are skipped, or raise for the first."""
        for row, error in broken.items():
            self.broken_image_handler(dataset)(row, error, False)
            log.info("data: skipped %s (%s)", sample_name(dataset, row), error)


def relabel(images: BatchedDataset, mapping: Mapping[str, str | int]) -> None:
    """Rename the classes of a dataset in place; classes with the same new name are merged.

    New classes are numbered in the order of the first old class that maps to them.

    Args:
        images: Dataset to relabel.
        mapping: New name for each class name.

    Raises:
        UserError: if a class is missing from the mapping, or the mapping names an unknown class.
    """
    new_names = {str(old): str(new) for old, new in mapping.items()}
    for name in [*(name for name in images.classes if name not in new_names), *(new_names.keys() - images.classes)]:
        problem = "is not in the mapping" if name in images.classes else "is no class of the dataset"
        raise UserError(f"data.target_transform: {name!r} {problem}; map each of {', '.join(images.classes)}")
    classes = list(dict.fromkeys(new_names[name] for name in images.classes))
    numbers = torch.tensor([classes.index(new_names[name]) for name in images.classes])
    images.targets = numbers[images.targets]
    images.classes = classes


def indices_except(rows: dict[int, str], total: int) -> Tensor:
    """Return the indices in [0, total) except these rows, (N,) int64."""
    keep = torch.ones(total, dtype=torch.bool)
    keep[list(rows)] = False
    return keep.nonzero().flatten()


def discard(image: Any) -> None:
    """Ignore the image, where only the label is needed."""
