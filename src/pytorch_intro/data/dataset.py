"""Datasets of uint8 images that are indexed by sample or by batch."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from pytorch_intro.data.augment.crops import RandomResizedCrop
from pytorch_intro.data.duplicates import hash_images

Sample = tuple[Tensor, int]
Batch = tuple[Tensor, Tensor]
Indices = Tensor | Sequence[int]
Storage = Literal["in memory", "memory-mapped", "loaded on the fly"]


class BatchedDataset(Dataset[Sample]):
    """Base class: labeled images of one shape.

    A DataLoader calls `__getitems__` with a batch of indices, which avoids collating single samples.

    Attributes:
        image_shape: (C, H, W).
        targets: (N,) int64 class indices.
        classes: Class names.
        storage: Where the images are. In memory, they can be moved to a device; on the fly, they are decoded each time.
        paths: Of the files of an image folder or CSV file, N; only while the DataModule is set up.
    """

    paths: Sequence[str] | None = None
    image_shape: tuple[int, int, int]
    targets: Tensor
    classes: list[str]
    storage: Storage

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        """Return one image (C, H, W) uint8 and its label."""
        raise NotImplementedError

    def __getitems__(self, indices: Indices) -> Batch:
        """Return a batch: images (N, C, H, W) uint8 and labels (N,) int64."""
        raise NotImplementedError

    def seeded(self, seed: int, epoch: Tensor, crop: RandomResizedCrop | None = None) -> "BatchedDataset":
        """Return the dataset with its random numbers fixed by seed and epoch; itself if it uses none.

        Args:
            crop: Crop of the original images; only datasets that decode on the fly have these.
        """
        return self

    def pixel_hashes(self) -> Tensor | None:
        """Return the hash of each image, (N,) int64; None if the images are decoded on the fly."""
        return None


class InMemoryImageDataset(BatchedDataset):
    """Images (N, C, H, W) uint8, labels (N,) int64 and the names of the classes.

    The images may be stored with channels last, which is the fastest layout for random resized crops.

    Attributes:
        hashes: (N,) int64, as hash_images returns them; None until they are needed.
        cache_lock: Lock of the cache that the images are from, if any.
    """

    storage: Storage = "in memory"
    hashes: Tensor | None = None
    cache_lock: object = None

    def __init__(self, images: Tensor, targets: Tensor, classes: Sequence[str]) -> None:
        self.images = images
        self.targets = targets
        self.classes = list(classes)
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)

    def __getitem__(self, index: int) -> Sample:
        return self.images[index].contiguous(), int(self.targets[index])

    def __getitems__(self, indices: Indices) -> Batch:
        rows = torch.as_tensor(indices)
        if self.images.is_contiguous():
            return self.images.index_select(0, rows), self.targets.index_select(0, rows)
        pixels = self.images.permute(0, 2, 3, 1)  # channels last, which copies whole rows
        return pixels.index_select(0, rows).permute(0, 3, 1, 2), self.targets.index_select(0, rows)

    def pixel_hashes(self) -> Tensor:
        if self.hashes is None:
            self.hashes = hash_images(self.images)
        return self.hashes


class ImageSubset(Subset[Sample]):
    """A subset, given by indices (N,) int64, that can be indexed by sample or by batch."""

    dataset: BatchedDataset
    indices: Tensor  # type: ignore[assignment]

    def __init__(self, dataset: BatchedDataset, indices: Tensor) -> None:
        super().__init__(dataset, cast(Any, indices))

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: Indices) -> Batch:  # type: ignore[override]
        return self.dataset.__getitems__(self.indices[torch.as_tensor(indices)])

    def take(self, rows: Tensor) -> "ImageSubset":
        """Return the subset of these rows of this subset, given by (N,) int64 or a mask (N,) bool."""
        return ImageSubset(self.dataset, self.indices[rows])

    @property
    def targets(self) -> Tensor:
        """(N,) int64."""
        return self.dataset.targets[self.indices]

    def to(self, device: torch.device) -> "ImageSubset":
        """Copy the images and labels to a device, where batches are then gathered without the host."""
        images, targets = self.dataset.__getitems__(self.indices)
        copy = InMemoryImageDataset(images.contiguous().to(device), targets.to(device), self.dataset.classes)
        return ImageSubset(copy, torch.arange(len(self), device=device))


class RepeatedSubset(ImageSubset):
    """A subset of images that are loaded on the fly, where row + len(self) is another random sample of the same image.

    An epoch may have an image several times; each time, its random crop differs.
    """

    def __getitems__(self, indices: Indices) -> Batch:  # type: ignore[override]
        rows = torch.as_tensor(indices)
        repeats = rows.div(len(self), rounding_mode="floor")
        return self.dataset.__getitems__(self.indices[rows % len(self)] + repeats * len(self.dataset))


def identity_collate(batch: Any) -> Any:
    """Return the batch as it is: `__getitems__` has already collated it."""
    return batch


def evenly_spaced_indices(total: int, count: int = 64) -> list[int]:
    """Return up to `count` evenly spaced indices in [0, total), endpoints included."""
    return sorted({round(step * (total - 1) / max(1, count - 1)) for step in range(count)})
