"""The LightningModule: a network, its loss, its optimizer, and loss and accuracy of each epoch."""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from lightning import LightningModule
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from pytorch_intro.config.instantiate import explained_construction
from pytorch_intro.data.dataset import Batch
from pytorch_intro.training.lightning_internals import skip_empty_hooks
from pytorch_intro.training.losses import is_cross_entropy
from pytorch_intro.training.metrics import EpochMetrics
from pytorch_intro.training.schedulers import build_schedule
from pytorch_intro.training.tta import Shift, tta_logits

log = logging.getLogger(__name__)


class Classifier(LightningModule):
    """Trains a network that turns images (N, C, H, W) float into logits (N, num_classes).

    Loss and accuracy accumulate on the device and are read once per epoch; no step waits for them. train/loss is the
    training loss; val/loss and test/loss are plain cross-entropy, and so is train/cross_entropy, which is logged if the
    training loss is another one. Each step returns its logits and targets, from which callbacks compute further
    metrics.

    Args:
        optimizer: Factory of the optimizer, called with the network's parameters.
        scheduler: Factory of the schedule, called with the optimizer and the total number of steps (may be math.inf);
            for a class, see build_schedule.
        loss: Training loss, called with logits (N, num_classes) and labels (N,) int64 or, with MixUp and CutMix, class
            probabilities (N, num_classes); see losses.py.
        tta_flip: Test-time augmentation (TTA): average the logits of each image and its horizontal flip.
        tta_shift: TTA: average the logits over shifts of up to this many pixels in each direction.
        compile: Whether to compile the network in place, or the mode of torch.compile (reduce-overhead: CUDA graphs).

    Attributes:
        temperature: Divisor of the logits that `forward` returns in eval mode; see calibration/. 1 during training: the
            logits of each step and the losses are those of the network itself. A checkpoint may have another one.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, float], LRScheduler],
        loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        tta_flip: bool | None = False,
        tta_shift: Shift = 0,
        compile: bool | Literal["reduce-overhead", "max-autotune"] = False,
    ) -> None:
        super().__init__()
        # Plain values only: a checkpoint that contains modules or functions does not load with weights_only=True.
        self.save_hyperparameters("num_classes", "tta_flip", "tta_shift")
        self.network = network.to(memory_format=torch.channels_last)  # about twice as fast for convolutions
        self.is_compiled = bool(compile)
        if compile:  # in place, so that the keys of the state dict stay the same
            self.network.compile(mode=None if compile is True else compile)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.loss = loss
        self.tta_flip = tta_flip
        self.tta_shift = tta_shift
        self.train_metrics = EpochMetrics(has_cross_entropy=not is_cross_entropy(loss))
        self.val_metrics = EpochMetrics()
        self.test_metrics = EpochMetrics()
        self.no_tta_metrics = EpochMetrics()
        self.parameter_groups: Callable[[], Iterable[Any]] = self.network.parameters  # fine-tuning sets others
        self.temperature = 1.0
        self.resumed_metrics: dict[str, float] = {}  # of the checkpoint that training resumes from
        self.resumed_total_steps: float | None = None  # likewise

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) float.

        In eval mode, they are the mean over all views, divided by the temperature: their softmax is what predict gives.
        """
        return self.network(images) if self.training else self.tta_logits(images).mean(dim=0) / self.temperature

    def tta_logits(self, images: Tensor) -> Tensor:
        """Return the logits of each view of the images: (views, N, num_classes) float32; the first is the image."""
        return tta_logits(self.network, images, self.tta_flip, self.tta_shift)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, targets = batch
        logits = self(images)
        loss = self.loss(logits, targets)
        plain = cross_entropy(logits.detach(), targets) if self.train_metrics.has_cross_entropy else None
        if targets.ndim == 2:  # mixed images count as the class with the largest share
            targets = targets.argmax(dim=1)
        self.train_metrics.update(loss.detach(), logits.detach(), targets, plain)
        if self.trainer.is_last_batch:  # callbacks run before this module's on_train_epoch_end
            self.log_epoch("train", self.train_metrics)
        return {"loss": loss, "logits": logits, "targets": targets}  # with the graph, for subclasses with more losses

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, targets = batch
        logits = self.tta_logits(images).mean(dim=0)
        self.val_metrics.update(cross_entropy(logits, targets), logits, targets)
        return {"logits": logits, "targets": targets}

    def on_validation_epoch_end(self) -> None:
        self.log_epoch("val", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, targets = batch
        views = self.tta_logits(images)
        logits = views.mean(dim=0)
        self.test_metrics.update(cross_entropy(logits, targets), logits, targets)
        self.no_tta_metrics.update(cross_entropy(views[0], targets), views[0], targets)
        return {"logits": logits, "targets": targets}

    def on_test_epoch_end(self) -> None:
        self.log_epoch("test", self.test_metrics)
        if self.tta_flip or self.tta_shift:
            self.log("test/accuracy_no_tta", self.no_tta_metrics.compute()["accuracy"], sync_dist=True)
        self.no_tta_metrics.reset()

    def log_epoch(self, stage: str, metrics: EpochMetrics) -> None:
        """Log the metrics of the epoch as `<stage>/…`, and reset. EpochLogger passes train/… to the loggers."""
        values = {f"{stage}/{name}": value for name, value in metrics.compute().items()}
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, logger=False if stage == "train" else None)
        metrics.reset()

    def configure_optimizers(self) -> Any:
        function = getattr(self.optimizer, "func", self.optimizer)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        node = OmegaConf.create({"_target_": f"{function.__module__}.{name}"})
        with explained_construction("optimizer", node):  # the user's class may fail only with these parameters
            optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        self.total_steps = max(1, self.trainer.estimated_stepping_batches)
        self.trainer.fit_loop.setup_data()  # num_training_batches is not known yet with max_steps alone
        batches = int(self.trainer.num_training_batches)
        schedule = build_schedule(self.scheduler, optimizer, self.total_steps, batches)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metrics that were measured with these weights, and the sums of an unfinished epoch."""
        checkpoint["metrics"] = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
        checkpoint["train_metrics"] = self.train_metrics.gather_state()
        checkpoint["total_steps"] = self.total_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue with the sums of an interrupted epoch and the metrics known so far; or test with the temperature."""
        if self.trainer.training:
            self.train_metrics.restore(checkpoint["train_metrics"], self.trainer.global_rank, self.trainer.world_size)
            self.resumed_metrics = checkpoint["metrics"]
            self.resumed_total_steps = checkpoint["total_steps"]
        else:
            self.temperature = checkpoint.get("temperature", 1.0)

    def on_fit_start(self) -> None:
        """Skip empty hooks; restore trainer.callback_metrics, which Lightning resets: a validation may precede."""
        skip_empty_hooks(self.trainer)
        restored = {name: torch.tensor(value) for name, value in self.resumed_metrics.items()}
        self.trainer.callback_metrics.update(restored)

    def on_train_start(self) -> None:
        """If the run was extended, continue at the learning rate of the schedule for its new number of steps."""
        schedule = self.lr_schedulers()
        if self.resumed_total_steps in (None, self.total_steps) or not isinstance(schedule, LambdaLR):
            return
        groups = schedule.optimizer.param_groups
        before = groups[0]["lr"]
        for group, rate, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = rate * factor(schedule.last_epoch)
        if groups[0]["lr"] != before:
            log.info(
                f"schedule: {self.total_steps:,} steps instead of {self.resumed_total_steps:,}, so that the learning "
                f"rate continues at {groups[0]['lr']:.3g} instead of {before:.3g}"
            )
