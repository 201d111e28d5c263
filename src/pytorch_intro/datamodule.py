"""The data's way to the network: data set, splits, loaders, and what happens to a batch on the device."""

import hashlib
import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast

import torch
from lightning import LightningDataModule
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pytorch_intro.augmentation import Augmentation, mix
from pytorch_intro.dataset import Batch, ImageDataset, LiveDataset, MappedDataset, Part, already_a_batch
from pytorch_intro.decoder import Resize, border
from pytorch_intro.errors import UserError
from pytorch_intro.hardware import device_memory
from pytorch_intro.inspection import spread
from pytorch_intro.normalize import Normalize, suitable_constants
from pytorch_intro.reading import Reader
from pytorch_intro.sampler import EpochBatches
from pytorch_intro.seeding import seed_draws
from pytorch_intro.source import Source
from pytorch_intro.splits import Splitting, check_classes

log = logging.getLogger(__name__)

Fraction = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(gt=0, le=4096)]  # pixels
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Workers = Annotated[int, Field(ge=0, le=512)]
Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DataModule(LightningDataModule):
    """Batches of uint8 images (N, C, H, W) and int64 labels (N,), augmented and normalised once on the device.

    Training, validation and test images are those that the data set divides itself into; what it lacks is drawn from
    its training images, by split_seed and evenly from all classes. The official test set of torchvision's data sets is
    loaded for testing only.

    Args:
        dataset: Makes the data set: a class of torchvision, of this project, or one's own; see source.py.
        root: The data root; passed on, as are download and labels, to those that take it.
        download: Fetch what is not there.
        labels: A file of labels.
        image_size: A side of a square or [height, width], in pixels; None: the images' own if all have the same, not
            above 64 a side, else 64.
        resize: What becomes of images of another aspect ratio: crop, pad or stretch.
        cache_dir: Where decoded images are kept; None: in the data root, in .cache.
        in_memory: Hold decoded images in memory; None: if they take less than an eighth of it.
        skip_broken: Leave out images that cannot be decoded, instead of stopping at the first.
        target_transform: From each class's name to the name of the class that takes its place.
        val_fraction: Share of the training images that is kept for validation; 0 for none.
        test_fraction: Share of all images that is kept for the test; 0 for none.
        num_folds, fold: Instead of val_fraction, validate on this one (from 0) of so many parts.
        split_seed: Of the draws.
        mean, std: Of each channel, for pixels scaled to [0, 1]; None: computed from the training images.
        augment: Named modules, applied in their order to training batches, (N, C, H, W) uint8 to the same.
        mixup_alpha, cutmix_alpha: Of the beta distributions of torchvision's MixUp and CutMix; 0 leaves one out, and of
            two one is drawn for each batch. The labels become shares of classes, (N, num_classes) float.
        batch_size: Images a batch, which all devices share.
        shuffle: Draw the training images in a new order every epoch.
        num_workers: Processes that fetch batches; 0 fetches in the training process.
        on_device: Keep the images on the device that trains; None: if they are in memory, no workers fetch them, and
            they take up less than a quarter of what is free there.
        seed: Of the order.

    Attributes:
        image_shape: (C, H, W), known after setup, as are
        classes: the classes' names.

    Raises:
        UserError: if the data cannot be had or read, a split would be empty, or a value does not fit the images.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        root: str | None,
        download: bool = True,
        labels: str | None = None,
        image_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None,
        resize: Resize = "crop",
        cache_dir: str | None = None,
        in_memory: bool | None = None,
        skip_broken: bool = False,
        target_transform: Mapping[str, str | int] | None = None,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        num_folds: Annotated[int, Field(ge=2)] | None = None,
        fold: NonNegativeInt = 0,
        split_seed: Seed = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[Annotated[float, Field(gt=0)]] | None = None,
        augment: Mapping[str, nn.Module] | None = None,
        mixup_alpha: Alpha = 0.0,
        cutmix_alpha: Alpha = 0.0,
        batch_size: PositiveInt = 256,
        shuffle: bool = True,
        num_workers: Workers = 0,
        on_device: bool | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if on_device and num_workers:
            raise UserError(
                f"data.num_workers={num_workers}: images on the device (data.on_device=true) need no workers"
            )
        if fold and not num_folds:
            raise UserError(f"data.fold={fold}: there are no folds; give their number by data.num_folds")
        if num_folds and fold >= num_folds:
            raise UserError(f"data.fold={fold}: the {num_folds} folds are numbered from 0 to {num_folds - 1}")
        reader = Reader(image_size, resize, cache_dir, in_memory, skip_broken, num_workers, target_transform)
        self.source = Source(dataset, {"root": root, "download": download, "labels": labels}, reader)
        self.splitting = Splitting(val_fraction, test_fraction, num_folds, fold, split_seed)
        self.mean = mean
        self.std = std
        self.augment = Augmentation(augment or {})
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.on_device = on_device
        self.seed = seed
        self.train_set: Part
        self.val_set: Part | None = None
        self.test_set: Part | None = None
        self.image_shape: tuple[int, int, int]
        self.classes: list[str]
        self.normalize: Normalize
        self.mix: nn.Module | None = None
        self.epoch = 0  # that training begins with, and
        self.batches_done = 0  # how many batches of it an interrupted run has trained on

    def state_dict(self) -> dict[str, Any]:
        """Where in the data the training is."""
        assert self.trainer is not None
        epochs, batches = self.trainer.fit_loop.epoch_progress.current, self.trainer.fit_loop.epoch_loop.batch_progress
        is_within_epoch = epochs.ready > epochs.processed  # type: ignore[attr-defined]
        done = batches.current.ready if is_within_epoch else 0
        return {"epoch": epochs.processed, "batches_done": done}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let training begin there. Lightning tells its loops only after loaders have been made."""
        self.epoch, self.batches_done = state_dict["epoch"], state_dict["batches_done"]

    def setup(self, stage: str) -> None:
        """Load the training and validation images, once; for the test, the test images too."""
        if not hasattr(self, "train_set"):
            train, val, test = self.splitting.divide(self.source)
            self.image_shape, self.classes = train.dataset.image_shape, train.dataset.classes
            self.train_set = train
            self.val_set = val
            self.test_set = test
            self.mean, self.std = suitable_constants(train, self.mean, self.std)
            self.normalize = Normalize(self.mean, self.std)
            self.mix = mix(len(self.classes), self.mixup_alpha, self.cutmix_alpha)
            self.augment.try_on(self.image_shape)
            self.save_hyperparameters(self.inputs(), logger=False)  # into every checkpoint
            self.tell()
        if stage == "test" and self.test_set is None and (own_test := self.source.part("test")):
            check_classes(self.classes, own_test, "test")
            self.test_set = own_test

    def serve(self, test_set: Part) -> None:
        """Take these images for the test, in the place of setup; mean and std have to be given."""
        assert self.mean is not None
        assert self.std is not None
        self.train_set = self.test_set = test_set  # so that setup, which Lightning calls, finds all there
        self.image_shape, self.classes = test_set.dataset.image_shape, test_set.dataset.classes
        self.normalize = Normalize(self.mean, self.std)

    def inputs(self) -> dict[str, Any]:
        """What images the network takes and what it tells of them, in plain values, for whoever has its weights alone.

        border is how bright the images' borders are, from 0 to 1, the median of some training images; trained_on tells
        one choice of training images from another.
        """
        rows = self.train_set.indices.cpu().numpy(), self.train_set.targets.cpu().numpy()
        images, _ = self.train_set.__getitems__(spread(len(self.train_set)))
        return {
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "resize": self.source.reader.resize,
            "mean": list(self.mean or ()),
            "std": list(self.std or ()),
            "border": statistics.median(map(border, images.numpy())),
            "trained_on": hashlib.sha256(b"".join(part.tobytes() for part in rows)).hexdigest()[:16],
        }

    def tell(self) -> None:
        """Say how many images there are, and for what."""
        channels, height, width = self.image_shape
        val = f"{len(self.val_set):,}" if self.val_set else "none"
        test = f"{len(self.test_set):,}" if self.test_set else "its own" if self.source.has("test") else "none"
        held = self.train_set.dataset.held
        log.info(
            f"data: {self.source.name}, {channels} x {height} x {width}, {len(self.classes)} classes; "
            f"training {len(self.train_set):,}, validation {val}, test {test}; {held}"
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        is_one_batch = self.trainer is not None and self.trainer.overfit_batches  # type: ignore[attr-defined]
        return self.loader(self.train_set, shuffle=self.shuffle and not is_one_batch, training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self.loader(self.val_set) if self.val_set else []

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self.loader(self.test_set) if self.test_set else []

    def loader(self, part: Part, shuffle: bool = False, training: bool = False) -> DataLoader[Batch]:
        """An ordinary DataLoader, whose data set hands over whole batches."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if len(part) < world:
            raise UserError(
                f"trainer.devices: {world} processes cannot share {len(part)} images; take fewer, or change "
                "data.val_fraction or data.test_fraction"
            )
        if self.batch_size % world:
            raise UserError(
                f"data.batch_size={self.batch_size}: {world} processes cannot share a batch evenly; take a multiple of "
                f"{world}"
            )
        if training and world > 1:
            log.info(f"batches: {self.batch_size} images a step, {self.batch_size // world} on each of {world} devices")
        if device := self.resident_device(part):
            log.info("data: %s images are kept on %s", f"{len(part):,}", device)
            part = part.to(device)
        epoch, start = (self.epoch, self.batches_done) if training else (0, 0)
        batches = EpochBatches(len(part), self.batch_size, shuffle, self.seed, world, rank, training, start, device)
        batches.set_epoch(epoch)  # as Lightning does too, but after workers have begun to fetch
        if isinstance(part.dataset, LiveDataset):
            part = Part(part.dataset.drawn(self.seed, batches.epoch_drawn), part.indices)
        return DataLoader(
            cast(Dataset[Batch], part),  # whose __getitems__ gives batches
            batch_sampler=cast(Any, batches),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=already_a_batch,
            generator=torch.Generator().manual_seed(self.seed),  # so that workers take nothing from the global one
        )

    def resident_device(self, part: Part) -> torch.device | None:
        """The device that trains, if images are to be kept there; they stay on the host by themselves."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        is_in_memory = isinstance(part.dataset, ImageDataset) and not isinstance(part.dataset, MappedDataset)
        if self.on_device and not is_in_memory:
            raise UserError(f"data.on_device=true: the images are {part.dataset.held}; leave it out")
        if device.type == "cpu" or not is_in_memory or self.num_workers or self.on_device is False:
            return None
        fits = len(part) * math.prod(self.image_shape) < device_memory(device) / (1 if self.on_device else 4)
        if self.on_device and not fits:
            raise UserError(
                f"data.on_device=true: {len(part):,} images do not fit into the memory of {device}; leave it out"
            )
        return device if fits else None

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Let what a training step draws depend on the seed, its number and the process, on nothing before it."""
        if self.trainer is not None and self.trainer.training:
            number = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
            seed_draws(self.trainer.strategy.root_device, "step", self.seed, self.trainer.global_rank, number)
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: images (N, C, H, W) uint8 to float32, augmented and mixed for training, normalised."""
        images, targets = batch
        if self.trainer is None:
            return self.normalize(images), targets
        if self.trainer.training:
            self.augment.set_epoch(self.trainer.current_epoch)
            images = self.augment(images)
        images = self.normalize(images)
        if self.trainer.training and self.mix:
            images, targets = self.mix(images, targets)
        return self.trainer.precision_plugin.convert_input(images), targets  # for 64-true, bf16-true and the like
