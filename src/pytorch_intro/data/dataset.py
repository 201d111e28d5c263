"""Datasets of uint8 images that are indexed by sample or by batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

Sample = tuple[Tensor, int]
Batch = tuple[Tensor, Tensor]
Indices = Tensor | Sequence[int]


class BatchedDataset(Dataset[Sample]):
    """Base class: labeled images of one shape.

    A DataLoader calls `__getitems__` with a batch of indices, which avoids collating single samples.

    Attributes:
        image_shape: (C, H, W).
        targets: (N,) int64 class indices.
        classes: Class names.
        folder: Folder of the decoded images, or None.
        storage: Where the images are, for the log.
        is_resident: Whether all images are in memory, so that they can be moved to a device.
        is_decoded: Whether indexing only copies pixels, rather than loading and decoding.
    """

    image_shape: tuple[int, int, int]
    targets: Tensor
    classes: list[str]
    folder: Path | None = None
    storage: str
    is_resident = False
    is_decoded = True

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        """Return one image (C, H, W) uint8 and its label."""
        raise NotImplementedError

    def __getitems__(self, indices: Indices) -> Batch:
        """Return a batch: images (N, C, H, W) uint8 and labels (N,) int64."""
        raise NotImplementedError

    def seeded(self, seed: int, epoch: Tensor) -> "BatchedDataset":
        """Return the dataset with its random draws fixed by seed and epoch; itself if it draws nothing."""
        return self


class InMemoryImageDataset(BatchedDataset):
    """Images and labels as two tensors.

    Args:
        images: (N, C, H, W) uint8, values 0 to 255.
        targets: (N,) int64 class indices.
        classes: Class names.
    """

    storage = "in memory"
    is_resident = True

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
    """Images in a memory-mapped file, paged in on access and dropped when memory is short.

    Processes share the pages. Pickling sends the file name, not the images.

    Args:
        file: .npy file of (N, C, H, W) uint8.
        targets: (N,) int64 class indices.
        classes: Class names.
    """

    storage = "memory-mapped"
    is_resident = False

    def __init__(self, file: Path, targets: Tensor, classes: Sequence[str]) -> None:
        self.file = file
        super().__init__(load_memmap(file), targets, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, images=load_memmap(state["file"]))


class ImageSubset(Subset[Sample]):
    """A subset that can be indexed by sample or by batch.

    Args:
        dataset: Dataset of all images.
        indices: Indices of the subset, (N,) int64.
    """

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

    @property
    def nbytes(self) -> int:
        """Bytes of the images."""
        return len(self) * torch.Size(self.dataset.image_shape).numel()

    def to(self, device: torch.device) -> "ImageSubset":
        """Copy the images and labels to a device, where batches are then gathered without the host."""
        images, targets = self.dataset.__getitems__(self.indices)
        copy = InMemoryImageDataset(images.to(device), targets.to(device), self.dataset.classes)
        return ImageSubset(copy, torch.arange(len(self), device=device))

    def seeded(self, seed: int, epoch: Tensor) -> "ImageSubset":
        """Return the same subset of the seeded dataset."""
        return ImageSubset(self.dataset.seeded(seed, epoch), self.indices)


def load_memmap(file: Path) -> Tensor:
    """Memory-map the array in a .npy file; writes to the tensor never reach the file."""
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


def identity_collate(batch: Any) -> Any:
    """Return the batch as it is: `__getitems__` has already collated it."""
    return batch
