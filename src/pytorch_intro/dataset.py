"""Images that fit in memory: one tensor, indexed like a list or fetched a batch at a time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

Sample = tuple[Tensor, int]
Batch = tuple[Tensor, Tensor]


class ImageDataset(Dataset[Sample]):
    """A data set held as one tensor of images and one of labels.

    `dataset[i]` is one image and its label; a DataLoader finds `__getitems__` and takes whole batches, which spares
    it from collating single images.

    Args:
        images: (N, C, H, W) uint8, values 0 to 255.
        targets: (N,) int64, indices into classes.
        classes: The classes' names.
    """

    def __init__(self, images: Tensor, targets: Tensor, classes: Sequence[str]) -> None:
        self.images = images
        self.targets = targets
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        """One image (C, H, W) uint8 and its label."""
        return self.images[index], int(self.targets[index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """A batch: images (N, C, H, W) uint8 and labels (N,) int64."""
        rows = torch.tensor(indices)
        return self.images[rows], self.targets[rows]


def already_a_batch(batch: Any) -> Any:
    """The collate function for batches that `__getitems__` has put together."""
    return batch
