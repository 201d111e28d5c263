"""Fine-tuning of a pretrained network: the head alone, the head first and then all layers, or all layers."""

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Timer
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import remove
from pytorch_intro.common.memory import free_device_memory, host_memory_limit
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import ImageSubset, evenly_spaced_indices
from pytorch_intro.pretrained.batchnorm_folding import fold_batch_norms
from pytorch_intro.pretrained.features import FeatureCache, FeatureDataset
from pytorch_intro.pretrained.linear_head import Features, Head, fit_heads
from pytorch_intro.pretrained.network import RANDOM, PretrainedNetwork
from pytorch_intro.training.callbacks.epoch_logger import EpochLogger
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.lightning_internals import callbacks, validate_before_training
from pytorch_intro.training.tta import tta_views

log = logging.getLogger(__name__)

Mode = Literal["auto", "head", "gradual", "full"]
Strength = Annotated[float, Field(ge=1e-10, le=1e4)]  # beyond, float32 overflows
DEFAULT_VIEWS = 4
MIN_EPOCHS, MAX_EPOCHS = 5, 50


class Finetuning(Callback):
    """Fine-tunes a PretrainedNetwork; build_experiment calls it with the objects of the run.

    head: The body is frozen. Its features of all images are computed once, and the head is fitted to them by logistic
    regression, with the L2 regularization that is best on the validation data. One epoch then measures and saves it.

    gradual: The head is fitted in the same way, then all layers are trained, with lower learning rates near the input.
    Starting from a random head would distort the pretrained features (Kumar et al. 2022, arXiv:2202.10054). The fitted
    head is validated and saved as epoch 0, since it may be better than all epochs.

    full: All layers are trained from the start.

    auto: head on a CPU, else gradual.

    Args:
        views: Number of views of each image that the head is fitted to: the center crop, then random augmentations.
            None: 4 if there are augmentations, else 1.
        l2_grid: Strengths of the head's L2 regularization to choose from.
        balanced: Whether to weight all classes equally when the head is fitted, instead of all images.
        layer_decay: Factor of the learning rate per layer, from the head (1) to the input.
        freeze_batchnorm: Whether batch norms keep the statistics of the pretrained weights.
        images_seen: Approximate number of images to train all layers on if max_epochs is None, in 5 to 50 epochs.
        max_epochs: Value of trainer.max_epochs.
    """

    def __init__(
        self,
        mode: Mode,
        views: PositiveInt | None,
        l2_grid: Sequence[Strength],
        balanced: bool,
        layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0,
        freeze_batchnorm: bool = False,
        images_seen: PositiveInt | None = None,
        max_epochs: int | None = None,
    ) -> None:
        if not l2_grid:
            raise UserError("finetune.l2_grid=[]: has no values; use finetune.l2_grid=[0.01]")
        self.mode = mode
        self.views = views
        self.l2_grid = l2_grid
        self.balanced = balanced
        self.layer_decay = layer_decay
        self.freeze_batchnorm = freeze_batchnorm
        self.images_seen = images_seen
        self.max_epochs = max_epochs
        self.is_resumed = self.is_trained = False  # is_trained: after at least one epoch
        self.batch_norms: list[nn.Module] = []

    def __call__(self, datamodule: DataModule, classifier: Classifier, trainer: Trainer) -> None:
        """Prepare a run for fine-tuning, before trainer.fit."""
        network = classifier.network
        if not isinstance(network, PretrainedNetwork):
            raise UserError(
                f"finetune={self.mode}: {type(network).__name__} has no pretrained weights; use model=timm or "
                "model=torchvision, or finetune=none"
            )
        device = trainer.strategy.root_device.type
        if self.mode == "auto":
            self.mode = "head" if device == "cpu" else "gradual"
            reason = "too slow to train" if device == "cpu" else "fast enough to train"
            log.info(f"finetune: {self.mode}, since the device is {device}, {reason} all layers")
        if network.origin == RANDOM and trainer.is_global_zero:
            log.warning(
                f"model.weights=null: finetune={self.mode} starts from random weights, so expect a low accuracy; use "
                "model.weights=default or a file"
            )
        self.datamodule, self.network = datamodule, network
        if self.mode in ("head", "gradual"):
            network.check_linear_head()
            self.check_memory(len(datamodule.train_set), self.number_of_views(), trainer.strategy.root_device)
        if self.mode == "head":
            self.prepare_head(classifier, trainer)
        else:
            self.prepare_layers(classifier, trainer)
            if self.freeze_batchnorm:
                self.batch_norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        callbacks(trainer).insert(0, self)

    def prepare_head(self, classifier: Classifier, trainer: Trainer) -> None:
        if self.datamodule.mix:
            raise UserError(
                "data.mixup_alpha, data.cutmix_alpha: finetune=head does not mix images; set both to 0, or use "
                "finetune=gradual"
            )
        for name in ("sampler", "samples_per_epoch"):
            if getattr(self.datamodule, name) is not None:
                raise UserError(
                    f"data.{name}: finetune=head fits the head to all images, with all classes weighted equally by "
                    f"finetune.balanced; use data.{name}=null, or finetune=gradual"
                )
        if classifier.is_compiled:
            raise UserError(
                "compile=true: finetune=head trains no layer, so compiling takes longer than it saves; use "
                "compile=false, or finetune=gradual"
            )
        log.info(
            "finetune: the head is fitted by L-BFGS, and one epoch measures it; loss, optimizer, scheduler and "
            "trainer.max_epochs are not used"
        )
        self.network.body.requires_grad_(False)
        # The head is fitted before the first step. The steps of the one epoch only measure loss and accuracy.
        classifier.optimizer = partial(torch.optim.SGD, lr=0.0)
        trainer.fit_loop.max_epochs = 1
        # Here, not in on_fit_start, which Lightning calls after it has counted the steps of an epoch.
        self.datamodule.train_dataloader = partial(self.train_dataloader, trainer, classifier)  # type: ignore[method-assign]

    def prepare_layers(self, classifier: Classifier, trainer: Trainer) -> None:
        if self.images_seen and self.max_epochs is None and trainer.max_steps == -1:
            epochs = math.ceil(self.images_seen / self.datamodule.epoch_size)
            epochs = min(max(epochs, MIN_EPOCHS), MAX_EPOCHS)
            trainer.fit_loop.max_epochs = epochs
            log.info(f"finetune: {epochs} epochs of {self.datamodule.epoch_size:,} images")
        if self.layer_decay < 1:
            classifier.parameter_groups = lambda: self.network.parameter_groups(self.layer_decay)
            try:  # the optimizer may reject parameter groups
                classifier.optimizer(classifier.parameter_groups())  # type: ignore[arg-type]
            except (AttributeError, TypeError, ValueError) as error:
                raise UserError(
                    f"finetune.layer_decay={self.layer_decay}: the optimizer does not take a learning rate per layer; "
                    "use optimizer=adamw, optimizer=sgd, or finetune.layer_decay=1"
                ) from error

    def state_dict(self) -> dict[str, Any]:
        return {"mode": self.mode, "is_trained": self.is_trained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["mode"] != self.mode:
            raise UserError(
                f"finetune=auto: the run started with {state_dict['mode']}, but this device selects {self.mode}; "
                "resume it on a device of the first kind, or start another run"
            )
        self.is_resumed, self.is_trained = True, state_dict["is_trained"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.started = time.perf_counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        if self.mode == "gradual" and not self.is_resumed:
            self.fit_head(trainer, pl_module)
        if self.mode != "head" and not self.is_resumed:
            self.log_duration(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.mode == "gradual" and not self.is_resumed and self.datamodule.val_set:
            self.validate_head(trainer)
        seconds = time.perf_counter() - self.started
        for timer in callbacks(trainer):
            if isinstance(timer, Timer):  # measures train_seconds, from here on
                timer.load_state_dict({"time_elapsed": {"train": timer.time_elapsed() + seconds}})

    def validate_head(self, trainer: Trainer) -> None:
        """Validate the fitted head as epoch 0, which makes it the first best.ckpt."""
        validate_before_training(trainer)
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        for callback in callbacks(trainer):
            if isinstance(callback, EpochLogger):
                callback.history[0] = metrics
        if metrics:  # unless trainer.limit_val_batches=0
            values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            log.info(f"epoch 0: {values} (the fitted head, before all layers are trained)")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep frozen parts in evaluation mode: Lightning sets all of the module to training mode."""
        if self.mode == "head":
            self.network.body.eval()
        for module in self.batch_norms:
            module.eval()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.is_trained = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            remove(self.folder(trainer))

    def folder(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "features"  # replaced with them by overwrite=true

    def train_dataloader(self, trainer: Trainer, classifier: Classifier) -> Any:
        """Fit the head, and return a loader of the features; set that of the validation features too."""
        data = self.datamodule
        if self.is_trained:
            return data.loader(data.train_set)
        train, val = self.fit_head(trainer, classifier)
        if val is not None:
            data.val_dataloader = partial(data.loader, as_subset(val, data.classes), num_workers=0)  # type: ignore[method-assign]
        return data.loader(as_subset(train, data.classes), training=True, num_workers=0)

    def fit_head(self, trainer: Trainer, classifier: Classifier) -> tuple[Features, Features | None]:
        """Compute the features and set the weights of the head; return the features of training and validation."""
        started = time.perf_counter()
        datamodule, views = self.datamodule, self.number_of_views()
        train_set, val_set = datamodule.train_set, datamodule.val_set
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            train_set = take_evenly(train_set, datamodule.batch_size)
            val_set = take_evenly(val_set, datamodule.batch_size) if val_set else None
        images = (datamodule.hparams[name] for name in ("trained_on", "files"))  # others need other features
        folder = self.folder(trainer) / "-".join(filter(None, images))
        self.network.eval()
        body, folded = fold_batch_norms(self.network.body, datamodule.image_shape)
        log.info(
            f"finetune: computing features of {len(train_set):,} images in {views} view(s), in "
            f"{trainer.precision}, with {folded} batch norms folded into convolutions"
        )
        cache = FeatureCache(folder, trainer, datamodule, body)
        train = cache.compute(train_set, "train", views)
        cache.extract = partial(mean_features, body, classifier)
        val = cache.compute(val_set, "val") if val_set else None
        self.network.train()
        log.info(f"finetune: features computed in {time.perf_counter() - started:.1f} s")
        with torch.random.fork_rng(devices=[]):
            heads = fit_heads(train, val, len(datamodule.classes), self.l2_grid, self.balanced)
        log_heads(heads)
        # Processes on different hardware may differ in the last digits.
        weight, bias = trainer.strategy.broadcast((heads[0].weight.cpu(), heads[0].bias.cpu()))
        assert self.network.head is not None
        self.network.head.weight.data.copy_(weight)
        self.network.head.bias.data.copy_(bias)
        return train, val

    def number_of_views(self) -> int:
        has_augmentation = len(self.datamodule.augment) > 0 or self.datamodule.original_crop is not None
        views = self.views or (DEFAULT_VIEWS if has_augmentation else 1)
        if views > 1 and not has_augmentation:
            raise UserError(
                f"finetune.views={views}: all views would be the same, since data.augment is empty; use "
                "finetune.views=1, or data/augment=photos_light"
            )
        return views

    def check_memory(self, images: int, views: int, device: torch.device) -> None:
        """Raise a UserError if the features would take more than half of the memory."""
        assert self.network.head is not None
        needed = 3 * 4 * images * views * self.network.head.in_features  # float32: features, centered ones, a product
        limit = host_memory_limit() if device.type == "cpu" else free_device_memory(device)
        if limit and needed > limit / 2:
            raise UserError(
                f"finetune.views={views}: the features of {images:,} images need {needed / 1e9:.3g} GB, more than half "
                f"of {limit / 1e9:.3g} GB; use {'finetune.views=1, or ' if views > 1 else ''}finetune=full"
            )

    def log_duration(self, trainer: Trainer, classifier: Classifier) -> None:
        """Measure a step on a few images, and log how long the training will take."""
        datamodule, device = self.datamodule, trainer.strategy.root_device
        size = min(len(datamodule.train_set), datamodule.batch_size, 16)
        images, targets = datamodule.train_set.__getitems__(torch.arange(size))
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()  # leaves the statistics of batch norms as they are
        with torch.random.fork_rng(devices=[]):
            images = datamodule.preprocess(images.to(device), augment=False)
            for _ in range(2):  # the first one is a warm-up
                started = time.perf_counter()
                with trainer.precision_plugin.forward_context():
                    loss = cross_entropy(self.network.forward(images), targets.to(device))  # not compiled
                loss.backward()
                loss.item()
        seconds = (time.perf_counter() - started) / size
        classifier.zero_grad()
        for module, mode in modes.items():
            module.training = mode
        images_per_step = datamodule.batch_size * trainer.accumulate_grad_batches
        total = trainer.estimated_stepping_batches * images_per_step * seconds / trainer.world_size
        duration = f"{total / 60:.0f} minutes" if total >= 120 else f"{total:.0f} s"
        expected = f", at most {duration}" if math.isfinite(total) else ""
        log.info(f"finetune: training all layers at about {trainer.world_size / seconds:,.0f} images/s{expected}")


def mean_features(body: nn.Module, classifier: Classifier, images: Tensor) -> Tensor:
    """Return the mean over the views of test-time augmentation, (N, D), which a linear head maps to mean logits."""
    views = tta_views(images, classifier.tta_flip, classifier.tta_shift)
    return torch.stack([body(view).float() for view in views]).mean(dim=0)


def as_subset(features: Features, classes: list[str]) -> ImageSubset:
    return ImageSubset(
        FeatureDataset(features, classes), torch.arange(len(features.targets), device=features.targets.device)
    )


def take_evenly(subset: ImageSubset, count: int) -> ImageSubset:
    """Return up to `count` images, evenly spaced so that they have several classes."""
    return subset.take(torch.tensor(evenly_spaced_indices(len(subset), count)))


def log_heads(heads: Sequence[Head]) -> None:
    best = heads[0]
    strengths = [head.l2 for head in heads]
    metrics, choice = "without validation data", "the default"
    if not math.isnan(best.accuracy):
        metrics, choice = f"val/accuracy {best.accuracy:.4f}, val/loss {best.loss:.4f}", "the best"
    log.info(
        f"finetune: head fitted, {metrics}, with L2 regularization {best.l2:g} ({choice} of {len(heads)} values from "
        f"{min(strengths):g} to {max(strengths):g})"
    )
