"""The data's way to the network: data set, splits, loaders, and what happens to a batch on the device."""

from collections.abc import Callable, Sequence
from typing import Annotated, cast

import torch
from lightning import LightningDataModule
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from pytorch_intro.dataset import Batch, ImageDataset, Sample, already_a_batch
from pytorch_intro.errors import UserError


class DataModule(LightningDataModule):
    """Batches of uint8 images (N, C, H, W) and int64 labels (N,), normalised and augmented once on the device.

    Validation is a seeded part of the official training set; the official test set is loaded for testing only.

    Args:
        dataset: Makes the official training or test set: `dataset(root=..., train=...)`.
        root: The data root, passed on.
        batch_size: Images a batch.
        shuffle: Draw the training images in a new order every epoch.
        num_workers: Processes that fetch batches; 0 fetches in the training process.
        val_fraction: Share of the training set that is kept for validation, between 0 and 1.
        split_seed: Of the draw that decides which images those are.
        mean, std: Of each channel over the training set, for pixels scaled to [0, 1].
        augment: Applied to normalised training batches, (N, C, H, W) float to the same.

    Raises:
        UserError: if a split would be empty, or mean and std don't fit the images' channels.
    """

    def __init__(
        self,
        dataset: Callable[..., ImageDataset],
        root: str,
        mean: Sequence[float],
        std: Sequence[Annotated[float, Field(gt=0)]],
        batch_size: PositiveInt = 256,
        shuffle: bool = True,
        num_workers: NonNegativeInt = 0,
        val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        split_seed: NonNegativeInt = 0,
        augment: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.root = root
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.mean = mean
        self.std = std
        self.train_set: Subset[Sample]
        self.val_set: Subset[Sample]
        self.test_set: ImageDataset
        self.image_shape: tuple[int, ...]
        self.classes: list[str]
        self.normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
        self.augment = augment or nn.Identity()

    def setup(self, stage: str) -> None:
        """Load what the stage needs, once: the training set for fit and validate, the test set for test."""
        if stage in ("fit", "validate") and not hasattr(self, "train_set"):
            official_train = self.dataset(root=self.root, train=True)
            self.image_shape = (*official_train.images.shape[1:],)
            self.classes = official_train.classes
            self.check_channels()
            self.train_set, self.val_set = split(official_train, self.val_fraction, self.split_seed)
        if stage == "test" and not hasattr(self, "test_set"):
            self.test_set = self.dataset(root=self.root, train=False)

    def check_channels(self) -> None:
        """Raise a UserError unless there is one mean and one std for each channel."""
        channels = self.image_shape[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise UserError(
                    f"data.{name}={list(values)}: the images have {channels} channel(s); give one value each"
                )

    def train_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.train_set, shuffle=self.shuffle)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.test_set)

    def loader(self, dataset: Dataset[Sample], shuffle: bool = False) -> DataLoader[Batch]:
        """An ordinary DataLoader, whose data set hands over whole batches."""
        return DataLoader(
            cast(Dataset[Batch], dataset),  # whose __getitems__ gives batches
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: images (N, C, H, W) uint8 to float32, normalised, and augmented for training."""
        images, targets = batch
        images = self.normalize(images)
        if self.trainer is None:
            return images, targets
        if self.trainer.training:
            images = self.augment(images)
        return self.trainer.precision_plugin.convert_input(images), targets  # for 64-true, bf16-true and the like


def split(dataset: ImageDataset, val_fraction: float, seed: int) -> tuple[Subset[Sample], Subset[Sample]]:
    """A seeded draw of a training and a validation part that share no image.

    Raises:
        UserError: if one of them would be empty.
    """
    val_size = round(len(dataset) * val_fraction)
    if not 0 < val_size < len(dataset):
        raise UserError(f"data.val_fraction={val_fraction} of {len(dataset)} images leaves a split empty; change it")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
    return Subset(dataset, order[val_size:]), Subset(dataset, order[:val_size])
