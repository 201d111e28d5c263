"""The LightningDataModule: dataset, splits, loaders, and augmentation and normalization on the device."""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import torch
from lightning import LightningDataModule, Trainer
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pytorch_intro.common.cpu import usable_cores
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import free_device_memory
from pytorch_intro.data.augment.crops import RandomResizedCrop
from pytorch_intro.data.augment.pipeline import Augmentation, build_mixup_cutmix
from pytorch_intro.data.class_sampler import ClassSampler
from pytorch_intro.data.class_weights import WeightsByName, named_weights
from pytorch_intro.data.dataset import Batch, ImageSubset, RepeatedSubset, identity_collate
from pytorch_intro.data.duplicates import handle_duplicates, warn_about_several_labels
from pytorch_intro.data.ingest.decoder import Interpolation, Resize
from pytorch_intro.data.ingest.introspect import describe_images
from pytorch_intro.data.ingest.reader import Cache, DatasetReader
from pytorch_intro.data.ingest.source import DatasetSplits
from pytorch_intro.data.ingest.workers import WorkerDataLoader, Workers, init_worker, share
from pytorch_intro.data.normalize import Normalize, repeat_channels, resolve_mean_std
from pytorch_intro.data.resize import CenterCrop
from pytorch_intro.data.sampler import ResumableBatchSampler
from pytorch_intro.data.seeding import seed_all_rngs
from pytorch_intro.data.splits import SplitSpec, check_classes, warn_about_empty_classes

log = logging.getLogger(__name__)

Fraction = Annotated[float, Field(ge=0, lt=1)]
MAX_SIDE = 4096
FEW_IMAGES = 100  # of validation: the standard error of an accuracy of 50 % is 5 %
MAX_WORKERS = 8  # with data.num_workers=null; more rarely help
IMAGE_ARGUMENTS = ("image_size", "decode_size", "crop_pct", "interpolation")

Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]  # pixels
ImageSize = Side | Annotated[list[Side], Field(min_length=2, max_length=2)]
CropPct = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Mean = Sequence[Annotated[float, Field(ge=0, le=1)]]
Std = Sequence[Annotated[float, Field(gt=0, le=1)]]
Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DataModule(LightningDataModule):
    """Batches of uint8 images (N, C, H, W) and int64 labels (N,), augmented and normalized on the device.

    The random numbers of a training step depend on seed, rank and step alone. With MixUp or CutMix, labels are class
    probabilities (N, num_classes). conf/data/_base.yaml describes the arguments, and source.py the dataset.

    Attributes:
        image_shape: (C, H, W) of the network's input, known after setup. The dataset's images may be larger.
        classes: Class names, known after setup.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        root: str | None,
        download: bool = True,
        labels: str | None = None,
        path: str | None = None,
        image_size: ImageSize | None = None,
        decode_size: Side | None = None,
        crop_pct: CropPct | None = None,
        default_size: Side = 64,
        resize: Resize = "crop",
        interpolation: Interpolation | None = None,
        cache: Cache = "decoded",
        cache_dir: str | None = None,
        in_memory: bool | None = None,
        skip_broken: bool = False,
        target_transform: Mapping[str, str | int] | None = None,
        val_fraction: Fraction = 0.1,
        test_fraction: Fraction = 0.1,
        num_folds: Annotated[int, Field(ge=2)] | None = None,
        fold: NonNegativeInt = 0,
        split_seed: Seed = 0,
        drop_duplicates: bool = False,
        mean: Mean | None = None,
        std: Std | None = None,
        dataset_mean: Mean | None = None,
        dataset_std: Std | None = None,
        augment: Mapping[str, nn.Module] | None = None,
        mixup_alpha: Alpha = 0.0,
        cutmix_alpha: Alpha = 0.0,
        batch_size: PositiveInt = 256,
        shuffle: bool = True,
        sampler: Literal["balanced"] | WeightsByName | None = None,
        samples_per_epoch: PositiveInt | None = None,
        min_steps: PositiveInt | None = None,
        num_workers: Workers | None = None,
        on_device: bool | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if on_device and num_workers:
            raise UserError(
                f"data.num_workers={num_workers}: images on the device need no workers; use data.num_workers=0, or "
                "leave out data.on_device=true"
            )
        if cache == "none" and (on_device or in_memory):
            name = "on_device" if on_device else "in_memory"
            raise UserError(
                f"data.{name}=true: data.cache=none decodes the images in every epoch; leave out data.{name}, or use "
                "data.cache=decoded"
            )
        reader = DatasetReader(
            stored_size(image_size, decode_size, crop_pct),
            resize,
            cache_dir,
            in_memory,
            skip_broken,
            num_workers or 0,
            target_transform,
            interpolation=interpolation or "bilinear",
            cache=cache,
            default_size=default_size,
        )
        options = {"root": root, "download": download, "labels": labels, "path": path}
        self.source = DatasetSplits(dataset, options, reader)
        self.image_size = image_size
        self.decode_size = decode_size
        self.crop_pct = crop_pct
        self.interpolation = interpolation
        self.split_spec = SplitSpec(val_fraction, test_fraction, num_folds, fold, split_seed)
        self.drop_duplicates = drop_duplicates
        self.mean = dataset_mean if mean is None else mean  # mean is maybe that of the weights; see build_datamodule
        self.std = dataset_std if std is None else std
        self.settings_from_weights: Collection[str] = ()  # names; their mean and std are adapted to the channels
        self.augment = Augmentation(augment or {})
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.samples_per_epoch = samples_per_epoch
        self.min_steps = min_steps
        self.num_workers = num_workers
        self.on_device = on_device
        self.seed = seed
        self.train_set: ImageSubset
        self.val_set: ImageSubset | None = None
        self.test_set: ImageSubset | None = None
        self.own_test: ImageSubset | None = None  # the dataset's own test images, loaded before to find duplicates
        self.image_shape: tuple[int, int, int]
        self.classes: list[str]
        self.center_crop: CenterCrop
        self.normalize: Normalize
        self.class_sampler: ClassSampler | None = None
        self.original_crop: RandomResizedCrop | None = None  # of the original images, with cache=none
        self.mix: nn.Module | None = None
        self.position = {"epoch": 0, "completed_batches": 0}  # where training starts

    def state_dict(self) -> dict[str, int]:
        """Return the position in the data: complete epochs, and the batches of the current one that are trained on."""
        assert self.trainer is not None
        epochs, batches = self.trainer.fit_loop.epoch_progress.current, self.trainer.fit_loop.epoch_loop.batch_progress
        is_within_epoch = epochs.ready > epochs.processed  # type: ignore[attr-defined]
        completed = batches.current.ready if is_within_epoch else 0
        return {"epoch": epochs.processed, "completed_batches": completed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume at this position; Lightning restores its loops only after the loaders are made."""
        self.position = state_dict

    def setup(self, stage: str) -> None:
        """Load the images once; of the dataset's own test images, only the hashes are used before the test."""
        if not hasattr(self, "train_set"):
            own = self.source.split("train"), self.source.split("val"), self.source.has_split("test")
            self.train_set, self.val_set, self.test_set = self.split_spec.apply(*own)
            images = self.train_set.dataset
            if images.pixel_hashes() is not None or self.drop_duplicates:
                self.own_test = None if self.test_set else self.source.split("test")
            others = {"validation": self.val_set, "test": self.test_set or self.own_test}
            warn_about_several_labels([self.train_set, *(part for part in others.values() if part)])
            self.train_set = handle_duplicates(self.train_set, others, self.drop_duplicates)
            warn_about_empty_classes(self.train_set)
            self.classes = images.classes
            self.set_shapes(images.image_shape)
            for name in {"mean", "std"}.intersection(self.settings_from_weights):
                setattr(self, name, repeat_channels(getattr(self, name), self.image_shape[0]))
            self.mean, self.std = resolve_mean_std(self.train_set, self.mean, self.std)
            self.normalize = Normalize(self.mean, self.std)
            self.mix = build_mixup_cutmix(len(self.classes), self.mixup_alpha, self.cutmix_alpha)
            if self.sampler is not None:
                self.class_sampler = self.build_class_sampler(self.sampler)
            # Every checkpoint contains these hyperparameters: what a user of the weights must know about the images.
            preprocessing = {
                "image_shape": list(self.image_shape),
                "crop_pct": self.center_crop.crop_pct,
                "resize": self.source.reader.resize,
                "interpolation": self.source.reader.interpolation,
                # As passed, maybe from the network's weights: eval_data.py builds the same images from them.
                "arguments": {name: getattr(self, name) for name in IMAGE_ARGUMENTS},
                "bit_depth": self.source.reader.bit_depth or 16,
                "mean": list(self.mean),
                "std": list(self.std),
            }
            self.save_hyperparameters(describe_images(self.train_set) | preprocessing, logger=False)
            images.paths = None
            self.log_summary()
        if stage == "test" and self.test_set is None and (own_test := self.own_test or self.source.split("test")):
            check_classes(self.classes, own_test, "test")
            self.test_set = own_test

    def set_shapes(self, stored_shape: tuple[int, int, int]) -> None:
        """Set the shape of the network's input, the center crop to it, and the augmentation between them.

        Args:
            stored_shape: (C, H, W) of the dataset's images.
        """
        channels, *stored = stored_shape
        if self.image_size is None:
            height, width = (max(1, round(side * (self.crop_pct or 1))) for side in stored)
        else:
            height, width = self.image_size if isinstance(self.image_size, list) else [self.image_size] * 2
        self.image_shape = (channels, height, width)
        self.center_crop = CenterCrop((height, width), self.crop_pct or min(height, width) / min(stored))
        self.augment.set_size((height, width))
        self.augment.validate_shape(stored_shape, (height, width))
        if self.source.reader.cache == "none" and channels in (1, 3) and (crop := self.augment.take_crop()):
            self.original_crop = crop
            log.info("data: random resized crops are taken from the original files, before other augmentations")
            self.augment.validate_shape(self.image_shape, (height, width))

    def log_summary(self) -> None:
        channels, height, width = self.image_shape
        stored = self.train_set.dataset.image_shape[1:]
        kept = "" if stored == (height, width) else f" from {stored[0]} x {stored[1]}"
        val = f"{len(self.val_set):,}" if self.val_set else "none"
        test = f"{len(self.test_set):,}" if self.test_set else "its own" if self.source.has_split("test") else "none"
        log.info(
            f"data: {self.source.name}, {channels} x {height} x {width}{kept}, {len(self.classes)} classes; "
            f"training {len(self.train_set):,}, validation {val}, test {test}; {self.train_set.dataset.storage}"
        )

        if self.min_steps is not None:  # defaults that the user has maybe not chosen
            names = [*(["resized_crop"] if self.original_crop else []), *self.augment.names]
            log.info(
                f"data: images of other aspect ratios: {self.source.reader.resize} (data.resize); training images: "
                f"{', '.join(names) or 'not augmented'} (data/augment)"
            )
        if self.val_set and len(self.val_set) < FEW_IMAGES and self.split_spec.num_folds is None:
            log.info(
                f"data: {len(self.val_set)} validation images measure an accuracy only to about "
                f"± {1 / math.sqrt(len(self.val_set)):.0%}; cross-validation uses all images: "
                "-m data.num_folds=5 data.fold=0,1,2,3,4"
            )

    @property
    def epoch_size(self) -> int:
        """Number of samples in a training epoch."""
        return self.samples_per_epoch or len(self.train_set)

    def build_class_sampler(self, sampler: Literal["balanced"] | WeightsByName) -> ClassSampler:
        targets = self.train_set.targets
        has_images = targets.bincount(minlength=len(self.classes)) > 0
        if sampler == "balanced":
            return ClassSampler(targets, has_images.double())
        weights = named_weights("data.sampler", sampler, self.classes)
        for number in ((weights > 0) & ~has_images).nonzero().flatten().tolist():
            name = self.classes[number]
            raise UserError(f"data.sampler.{name}: the class has no training images; set its weight to 0")
        return ClassSampler(targets, weights)

    def train_dataloader(self) -> DataLoader[Batch]:
        is_one_batch = self.trainer is not None and self.trainer.overfit_batches  # type: ignore[attr-defined]
        return self.loader(self.train_set, shuffle=self.shuffle and not is_one_batch, training=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self.loader(self.val_set) if self.val_set else []

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self.loader(self.test_set) if self.test_set else []

    def loader(
        self, subset: ImageSubset, shuffle: bool = False, training: bool = False, num_workers: int | None = None
    ) -> DataLoader[Batch]:
        """Build a DataLoader that fetches whole batches; num_workers None: see choose_num_workers."""
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if len(subset) < world:
            raise UserError(
                f"trainer.devices: {world} processes cannot share {len(subset)} images; use fewer devices, or change "
                "data.val_fraction or data.test_fraction"
            )
        if self.batch_size % world:
            raise UserError(
                f"data.batch_size={self.batch_size}: {world} processes cannot divide it; use a multiple of {world}"
            )
        if training and world > 1:
            log.info(f"batches: {self.batch_size} images per step, {self.batch_size // world} per device")
        if device := self.device_for_cache(subset):
            log.info("data: caching %s images on %s", f"{len(subset):,}", device)
            subset = subset.to(device)
        samples, class_sampler = (self.samples_per_epoch, self.class_sampler) if training else (None, None)
        is_sampled = bool(samples or class_sampler)
        if is_sampled:
            log.info("sampling: %s", self.describe_sampling())
        batches = ResumableBatchSampler(
            len(subset), self.batch_size, shuffle, self.seed, world, rank, training, subset.indices.device,
            samples, class_sampler, mark_repeats=is_sampled and subset.dataset.storage == "loaded on the fly",
        )  # fmt: skip
        if training:  # Lightning sets the epoch too, but after workers have started to fetch
            resumed = self.position["epoch"]
            batches.epoch = max(resumed, self.trainer.current_epoch if self.trainer else 0)  # 0 until it is restored
            batches.start = self.position["completed_batches"] if batches.epoch == resumed else 0
        if num_workers is None:
            is_on_host = subset.indices.device.type == "cpu"  # a worker process cannot use the tensors of a GPU
            num_workers = self.choose_num_workers(training) if is_on_host else 0
        if num_workers:
            share(batches.current_epoch, num_workers)
        crop = self.original_crop if training else None
        images = subset.dataset.seeded(self.seed, batches.current_epoch, crop)
        seeded = (RepeatedSubset if batches.mark_repeats else ImageSubset)(images, subset.indices)
        return WorkerDataLoader(
            cast(Dataset[Batch], seeded),  # its __getitems__ returns batches
            batch_sampler=cast(Any, batches),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=num_workers > 0 and self.is_on_cuda,  # the copy to the GPU then overlaps with the step
            collate_fn=identity_collate,
            worker_init_fn=init_worker,
            generator=torch.Generator().manual_seed(self.seed),  # workers must not advance the global RNG
        )

    def describe_sampling(self) -> str:
        """Return "6,000 samples per epoch from 5,000 images, each image 0.6 to 12 times (data.sampler=balanced)"."""
        text = f"{self.epoch_size:,} samples per epoch from {len(self.train_set):,} images"
        if self.class_sampler is None:
            return text
        each = [
            self.epoch_size * share / len(rows)
            for share, rows in zip(self.class_sampler.shares.tolist(), self.class_sampler.rows, strict=True)
        ]
        sampler = self.sampler if isinstance(self.sampler, str) else "by name"
        return f"{text}, each image {min(each):.3g} to {max(each):.3g} times (data.sampler: {sampler})"

    @property
    def is_on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def choose_num_workers(self, training: bool) -> int:
        """Return the number of worker processes: the setting, or with cache=none one per core, at most MAX_WORKERS."""
        if self.num_workers is not None or self.source.reader.cache == "decoded":
            return self.num_workers or 0
        processes = self.trainer.num_devices if self.trainer else 1
        chosen = min(MAX_WORKERS, max(1, usable_cores() // processes))
        if training:
            log.info("data: %d worker process(es), since data.cache=none decodes images in every epoch", chosen)
        return chosen

    def device_for_cache(self, subset: ImageSubset) -> torch.device | None:
        """Return the training device if the images are to be copied there; None leaves them where they are."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        storage, shape = subset.dataset.storage, subset.dataset.image_shape
        if self.on_device and storage != "in memory":
            raise UserError(f"data.on_device=true: the images are {storage}; leave data.on_device out")
        if subset.dataset.targets.device == device:  # on a CPU, and of features that were computed there
            return None
        if storage != "in memory" or self.num_workers or self.on_device is False:
            return None
        fits = len(subset) * math.prod(shape) < free_device_memory(device) / (1 if self.on_device else 4)
        if self.on_device and not fits:
            raise UserError(
                f"data.on_device=true: {len(subset):,} images exceed the memory of {device}; leave data.on_device out"
            )
        return device if fits else None

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Reseed all RNGs from (seed, rank, step) so that a resumed run draws the same numbers."""
        if self.trainer is not None and self.trainer.training:
            step = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
            seed_all_rngs(self.trainer.strategy.root_device, "step", self.seed, self.trainer.global_rank, step)
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: images (N, C, H, W) uint8 to normalized float32; augmented and mixed in training."""
        images, targets = batch
        if images.ndim == 2:  # features of a frozen network, which its head receives as they are
            return batch
        training = self.trainer is not None and self.trainer.training
        images = self.preprocess(images, augment=training)
        if training and self.mix:
            images, targets = self.mix(images, targets)
        return images, targets

    def preprocess(self, images: Tensor, augment: bool) -> Tensor:
        """Augment or center-crop images (N, C, H, W) uint8, then normalize them, to float32 or trainer.precision."""
        if augment:
            images = self.augment(images)
        if not augment or images.shape[1:] != self.image_shape:
            images = self.center_crop(images)
        images = self.normalize(images)
        # for 64-true, bf16-true and the like
        return self.trainer.precision_plugin.convert_input(images) if self.trainer else images


def stored_size(
    image_size: int | list[int] | None, decode_size: int | None, crop_pct: float | None
) -> int | list[int] | None:
    """Return the side or [H, W] of the images as they are stored; None to infer it from the images.

    Args:
        image_size: Side or [H, W] of the network's input, whose aspect ratio the stored images have.
        decode_size: Shorter side of the stored images.
        crop_pct: Share of the stored image that the network receives, if decode_size is None.
    """
    if image_size is None:
        return decode_size
    sides = image_size if isinstance(image_size, list) else [image_size]
    if decode_size is not None and decode_size < min(sides):
        raise UserError(
            f"data.decode_size={decode_size}: smaller than data.image_size={image_size}; use a data.decode_size of "
            f"{min(sides)} or more, or leave it out"
        )
    share = (crop_pct or 1) if decode_size is None else min(sides) / decode_size
    stored = [round(side / share) for side in sides]
    if max(stored) > MAX_SIDE:
        raise UserError(
            f"data.crop_pct={crop_pct}: images of {max(stored)} pixels would be stored for "
            f"data.image_size={image_size}; use a larger data.crop_pct, or data.decode_size"
        )
    return stored if isinstance(image_size, list) else stored[0]


def datamodule_of(trainer: Trainer) -> DataModule:
    """Return the data module of a trainer that has one."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, DataModule)
    return datamodule
