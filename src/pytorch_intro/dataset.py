"""Decoded images as a data set: indexed like a list, or fetched a batch at a time."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from pytorch_intro.decoder import Decoder
from pytorch_intro.seeding import seed_draws

CPU = torch.device("cpu")

Sample = tuple[Tensor, int]
Batch = tuple[Tensor, Tensor]
Indices = Tensor | Sequence[int]


class Images(Dataset[Sample]):
    """Images of one shape with their labels; what DataLoaders of this project read from.

    `images[i]` is one image and its label. A DataLoader finds `__getitems__` and takes whole batches, which spares it
    from collating single images.

    Attributes:
        image_shape: (C, H, W).
        targets: (N,) int64, numbers of classes.
        classes: The classes' names.
        folder: Where the decoded images are kept, or None.
        held: Says where the images come from when they are asked for.
    """

    image_shape: tuple[int, int, int]
    targets: Tensor
    classes: list[str]
    folder: Path | None = None
    held: str

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        """One image (C, H, W) uint8 and its label."""
        raise NotImplementedError

    def __getitems__(self, indices: Indices) -> Batch:
        """A batch: images (N, C, H, W) uint8 and labels (N,) int64."""
        raise NotImplementedError


class ImageDataset(Images):
    """A data set held as one tensor of images and one of labels.

    Args:
        images: (N, C, H, W) uint8, values 0 to 255.
        targets: (N,) int64, indices into classes.
        classes: The classes' names.
    """

    held = "in memory"

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


class MappedDataset(ImageDataset):
    """The same, with the images in a file: the system reads in what is asked for, and drops it when memory is short.

    Processes share what has been read. Sent to another process, it is mapped there anew instead of copied.

    Args:
        file: A .npy file of (N, C, H, W) uint8.
        targets, classes: As above.
    """

    held = "mapped from a file"

    def __init__(self, file: Path, targets: Tensor, classes: Sequence[str]) -> None:
        self.file = file
        super().__init__(mapped(file), targets, classes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, images=mapped(state["file"]))


class LiveDataset(Images):
    """A data set of single images that is asked anew for each image, every epoch.

    What it draws at random is a function of the seed, the epoch and the image's number, whichever process draws it.

    Args:
        samples: `samples[i]` is an image of any kind and its label.
        decoder: Brings them to one shape.
        targets: (N,) int64, the labels.
        classes: The classes' names.

    Attributes:
        seed: Of what is drawn at random; None until it is told.
        epoch: () int64, the current one, in memory that worker processes share.
    """

    held = "asked for anew each time"
    seed: int | None = None
    epoch: Tensor

    def __init__(self, samples: Any, decoder: Decoder, targets: Tensor, classes: Sequence[str]) -> None:
        self.samples = samples
        self.decoder = decoder
        self.targets = targets
        self.classes = list(classes)
        self.image_shape = (decoder.channels, *decoder.size)

    def drawn(self, seed: int, epoch: Tensor) -> "LiveDataset":
        """The same data set with this seed and this epoch, which may go on."""
        same = copy(self)
        same.seed, same.epoch = seed, epoch
        return same

    def __getitem__(self, index: int) -> Sample:
        if self.seed is not None:
            seed_draws(CPU, "image", self.seed, int(self.epoch), index)
        return torch.from_numpy(self.decoder(self.samples[index][0])), int(self.targets[index])

    def __getitems__(self, indices: Indices) -> Batch:
        rows = torch.as_tensor(indices)
        return torch.stack([self[index][0] for index in rows.tolist()]), self.targets[rows]


class Part(Subset[Sample]):
    """Some of a data set's images.

    Args:
        dataset: The data set.
        indices: The images' numbers in it, (N,) int64.
    """

    dataset: Images
    indices: Tensor  # type: ignore[assignment]

    def __init__(self, dataset: Images, indices: Tensor) -> None:
        super().__init__(dataset, cast(Any, indices))

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: Indices) -> Batch:  # type: ignore[override]
        return self.dataset.__getitems__(self.indices[torch.as_tensor(indices)])

    def take(self, rows: Tensor) -> "Part":
        """The part of this part that has these of its rows."""
        return Part(self.dataset, self.indices[rows])

    @property
    def targets(self) -> Tensor:
        """(N,) int64."""
        return self.dataset.targets[self.indices]

    def to(self, device: torch.device) -> "Part":
        """A copy of these images and labels on a device, where they are fetched without the host."""
        images, targets = self.dataset.__getitems__(self.indices)
        copy = ImageDataset(images.to(device), targets.to(device), self.dataset.classes)
        return Part(copy, torch.arange(len(self), device=device))


def mapped(file: Path) -> Tensor:
    """The array in a .npy file as a tensor that is read when it is used, and that no one can write through."""
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))


def already_a_batch(batch: Any) -> Any:
    """The collate function for batches that `__getitems__` has put together."""
    return batch
