"""Reads any dataset into images of one shape: from its arrays, from a cache, or on demand."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor
from torchvision.datasets import DatasetFolder, VisionDataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import host_memory_limit
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.dataset import BatchedDataset, InMemoryImageDataset, evenly_spaced_indices
from pytorch_intro.data.ingest.cache import ImageCache
from pytorch_intro.data.ingest.decoder import BIT_DEPTHS, Decoder, Interpolation, Resize
from pytorch_intro.data.ingest.find_files import hash_files, is_searched, needs_conversion
from pytorch_intro.data.ingest.image_folder import ImageFiles
from pytorch_intro.data.ingest.introspect import (
    class_names,
    dataset_length,
    infer_decoder,
    is_nondeterministic,
    iter_files,
    listed_labels,
    sample_name,
    strip_addresses,
    try_in_memory,
)
from pytorch_intro.data.ingest.parallel import ALL_CORES, parallel_map
from pytorch_intro.data.ingest.relabel import relabel, warn_about_similar
from pytorch_intro.data.ingest.uncached import UncachedDataset

log = logging.getLogger(__name__)

CACHE_VERSION = 3  # bump when the decoder output or the layout of the files changes

Cache = Literal["decoded", "none"]


@dataclass
class DatasetReader:
    """Reads datasets of single images into a BatchedDataset of one shape.

    The arguments are DataModule's.

    Args:
        decode_size: Side or [H, W] of the images; None: inferred with default_size, see infer_decoder.
        channels: Number of channels; None: that of the first dataset. All others get the shape of the first.
        bit_depth: Bit depth of 16-bit grayscale images; None: that of the first dataset, or 16.
    """

    decode_size: int | list[int] | None
    resize: Resize
    cache_dir: str | None
    in_memory: bool | None
    skip_broken: bool
    num_workers: int
    target_transform: Mapping[str, str | int] | None = None
    channels: int | None = None
    bit_depth: int | None = None
    interpolation: Interpolation = "bilinear"
    cache: Cache = "decoded"
    default_size: int = 64

    def read(self, dataset: Any, cache_key: str = "") -> tuple[BatchedDataset, Tensor]:
        """Return the images, and the indices (N,) of those that are not broken.

        Args:
            dataset: Dataset of (image, label) pairs.
            cache_key: Class and arguments of a torchvision dataset, which identify its images.

        Raises:
            UserError: if it does not yield images and labels, or they cannot be cached.
        """
        name = type(dataset).__name__
        if not dataset_length(dataset):
            raise UserError(f"data: {name} has no images; check its arguments and files")
        if (images := try_in_memory(dataset)) and self.matches_requested_shape(images):
            if self.cache == "none":
                raise UserError(f"data.cache=none: {name} holds decoded images in memory; use data.cache=decoded")
            rows = torch.arange(len(images))
        elif self.cache == "none":
            images, rows = self.read_uncached(dataset)
        elif isinstance(dataset, ImageFiles) or self.has_fixed_files(dataset):
            images, rows = self.read_files(dataset, cache_key)
        else:
            images, rows = self.read_samples(dataset)
        if not len(rows):
            raise UserError(f"data: no image of {name} can be read; see the errors above, and fix the images")
        images.paths = dataset.paths if isinstance(dataset, ImageFiles) else None
        is_first = self.channels is None
        self.channels, *self.decode_size = images.image_shape
        if self.target_transform:
            relabel(images, self.target_transform)
        if is_first:
            warn_about_similar(images.classes, "rename them, or merge them with data.target_transform")
        return images, rows

    def has_fixed_files(self, dataset: Any) -> bool:
        """Return whether this torchvision dataset always gives the same image for a file."""
        if not isinstance(dataset, VisionDataset) or dataset.root is None:
            return False
        return not dataset.transforms or not is_nondeterministic(dataset, self.decoder(dataset))

    def matches_requested_shape(self, images: BatchedDataset) -> bool:
        """Return whether these images have the requested size and channels."""
        size = self.decode_size if isinstance(self.decode_size, list) else [self.decode_size] * 2
        has_channels = not self.channels or images.image_shape[0] == self.channels
        return has_channels and (not self.decode_size or list(images.image_shape[1:]) == size)

    def read_files(self, dataset: Any, cache_key: str) -> tuple[BatchedDataset, Tensor]:
        """Read image files through a cache of decoded images."""
        if isinstance(dataset, ImageFiles):
            source, content = dataset.origin, dataset.hash_files()
        else:
            source = strip_addresses(f"{cache_key} {dataset!r}")
            content = f"{torchvision.__version__} {hash_files(Path(dataset.root).resolve(), iter_files(dataset))}"
        size = self.decode_size or f"up to {self.default_size}"
        subject = f"{CACHE_VERSION} {source} {self.channels} {size} {self.resize} {self.bit_depth} "
        subject += self.interpolation
        cache = ImageCache(self.cache_folder(dataset), source, subject, content)
        cache.build(dataset, lambda: self.decoder(dataset), ALL_CORES, partial(self.raise_for_broken, dataset))
        labels, broken = cache.labels()
        self.report_broken(dataset, broken)
        self.bit_depth = cache.bit_depth()
        if self.bit_depth < BIT_DEPTHS[-1]:
            log.info(f"data: 16-bit files use {self.bit_depth} bits, 0 to {2**self.bit_depth - 1:,} become 0 to 255")
        targets = torch.tensor(dataset.targets) if isinstance(dataset, ImageFiles) else labels
        images = cache.open(targets, class_names(dataset, targets), self.fits_in_memory)
        return images, (labels >= 0).nonzero().flatten()

    def cache_folder(self, dataset: Any) -> Path:
        if not self.cache_dir:
            # torchvision's ImageFolder takes any folder in its root for a class.
            return (PROJECT / "data" if isinstance(dataset, DatasetFolder) else Path(dataset.root)) / ".cache"
        if isinstance(dataset, ImageFiles) and is_searched(Path(self.cache_dir), Path(dataset.root)):
            raise UserError(
                f"data.cache_dir={self.cache_dir}: is among the images in data.root={dataset.root}; use another folder"
            )
        return Path(self.cache_dir)

    def read_samples(self, dataset: Any) -> tuple[BatchedDataset, Tensor]:
        """Read a dataset without known files: once into memory, or on the fly if it is random or too large."""
        decoder = self.decoder(dataset)
        self.bit_depth = decoder.bit_depth
        return self.read_labels(dataset, decoder, self.reason_not_cacheable(dataset, decoder))

    def read_uncached(self, dataset: Any) -> tuple[BatchedDataset, Tensor]:
        """Read the labels only; images are decoded on the fly, and with skip_broken once now, to find broken ones."""
        decoder = self.decoder(dataset)
        self.bit_depth = decoder.bit_depth
        labels = dataset.targets if isinstance(dataset, ImageFiles) else listed_labels(dataset)
        if labels is None or self.skip_broken:
            return self.read_labels(dataset, decoder, "data.cache=none")
        targets = torch.tensor(labels)
        return UncachedDataset(dataset, decoder, targets, class_names(dataset, targets)), torch.arange(len(targets))

    def read_labels(self, dataset: Any, decoder: Decoder, reason: str) -> tuple[BatchedDataset, Tensor]:
        """Read all labels; without a reason to load the images on the fly, read them into memory too."""
        name = type(dataset).__name__
        shape = (0 if reason else len(dataset), decoder.channels, *decoder.size)
        images = torch.empty(shape, dtype=torch.uint8)
        targets = torch.zeros(len(dataset), dtype=torch.int64)
        broken = {}
        finds_broken = self.skip_broken and self.cache == "none"
        function = decoder if finds_broken or not reason else skip_image
        workers = ALL_CORES if self.cache == "none" else self.num_workers
        chunks = parallel_map(dataset, function, range(len(dataset)), workers, f"reading {name}")
        for row, result in enumerate(result for chunk in chunks for result in chunk):
            targets[row] = result.label
            if result.error:
                self.raise_for_broken(dataset, row, result.error, result.is_io_error)
                broken[row] = result.error
            elif not reason:
                images[row] = torch.from_numpy(result.value)
        self.report_broken(dataset, broken)
        rows, classes = (targets >= 0).nonzero().flatten(), class_names(dataset, targets)
        if not reason:
            return InMemoryImageDataset(images, targets, classes), rows
        log.info(f"data: {name}: loading images on the fly every epoch ({reason})")
        return UncachedDataset(dataset, decoder, targets, classes), rows

    def decoder(self, dataset: Any) -> Decoder:
        """Return the decoder to the requested shape, or to one inferred from the images."""
        if self.channels and isinstance(self.decode_size, list):
            height, width = self.decode_size
            return Decoder((height, width), self.channels, self.resize, self.bit_depth or 16, self.interpolation)
        decoder = infer_decoder(dataset, self.decode_size, self.resize, self.interpolation, self.default_size)
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

    def raise_for_broken(self, dataset: Any, row: int, error: str, is_io_error: bool = False) -> None:
        """Raise a UserError for a broken image, unless it is to be skipped."""
        if is_io_error or not self.skip_broken:
            name = sample_name(dataset, row)
            suffix, fix = Path(name).suffix.lower(), "fix or remove it"
            if needs_conversion(name):
                paths = dataset.paths if isinstance(dataset, ImageFiles) else []
                others = sum(path.lower().endswith(suffix) for path in paths) - 1
                fix = "convert it to JPEG" + (f", and {others:,} other {suffix} file(s)" if others > 0 else "")
            remedy = "fix that, then rerun" if is_io_error else f"{fix}, or use data.skip_broken=true"
            if isinstance(dataset, ImageFiles) and not is_io_error:
                remedy += "; data_report.py lists all such files"
            raise UserError(f"{name}: cannot be read ({error}); {remedy}")

    def report_broken(self, dataset: Any, broken: dict[int, str]) -> None:
        """Log the broken images that are skipped, or raise for the first."""
        for row, error in broken.items():
            self.raise_for_broken(dataset, row, error)
            log.info(f"data: skipped {sample_name(dataset, row)} ({error})")


def skip_image(image: Any) -> None:
    """Decode nothing: only the label is needed."""
