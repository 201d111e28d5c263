"""Datasets of uint8 images that are indexed by sample or by batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

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
        folder: Folder of the decoded images, or None.
        storage: Where the images are. In memory, they can be moved to a device; on the fly, they are decoded each time.
    """

    image_shape: tuple[int, int, int]
    targets: Tensor
    classes: list[str]
    folder: Path | None = None
    storage: Storage

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        """Return one image (C, H, W) uint8 and its label."""
        raise NotImplementedError

    def __getitems__(self, indices: Indices) -> Batch:
        """Return a batch: images (N, C, H, W) uint8 and labels (N,) int64."""
        raise NotImplementedError

    def seeded(self, seed: int, epoch: Tensor) -> "BatchedDataset":
        """Return the dataset with its random numbers fixed by seed and epoch; itself if it uses none."""
        return self


class InMemoryImageDataset(BatchedDataset):
    """Images (N, C, H, W) uint8, labels (N,) int64 and the names of the classes."""

    storage: Storage = "in memory"

    def __init__(self, images: Tensor, targets: Tensor, classes: Sequence[str]) -> None:
        self.images = images
        self.targets = targets
        self.classes = list(classes)
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)

    def __getitem__(self, index: int) -> Sample:
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: Indices) -> Batch:
        rows = torch.as_tensor(indices)
        return self.images.index_select(0, rows), self.targets.index_select(0, rows)


class MemmapImageDataset(InMemoryImageDataset):
    """The same, with the images in a memory-mapped .npy file: paged in on access, dropped when memory is short.

    Processes share the pages. Pickling sends the file name, not the images.
    """

    storage = "memory-mapped"

    def __init__(self, file: Path, targets: Tensor, classes: Sequence[str]) -> None:
        self.file = file
        super().__init__(load_memmap(file), targets, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, images=load_memmap(state["file"]))


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
        """Return the subset of these rows of this subset."""
        return ImageSubset(self.dataset, self.indices[rows])

    @property
    def targets(self) -> Tensor:
        """(N,) int64."""
        return self.dataset.targets[self.indices]

    def to(self, device: torch.device) -> "ImageSubset":
        """Copy the images and labels to a device, where batches are then gathered without the host."""
        images, targets = self.dataset.__getitems__(self.indices)
        copy = InMemoryImageDataset(images.to(device), targets.to(device), self.dataset.classes)
        return ImageSubset(copy, torch.arange(len(self), device=device))


def load_memmap(file: Path) -> Tensor:
    """Memory-map the array in a .npy file; writes to the tensor never reach the file."""
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


def identity_collate(batch: Any) -> Any:
    """Return the batch as it is: `__getitems__` has already collated it."""
    return batch
