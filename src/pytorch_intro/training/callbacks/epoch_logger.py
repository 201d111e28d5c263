"""Metrics of each epoch: a line in train.log, and its times for the loggers."""

import logging
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.training.hardware import synchronize

log = logging.getLogger(__name__)


class EpochLogger(Callback):
    """Logs train/…, epoch_seconds and a line of text every epoch; images_per_second, too, but not to the loggers.

    It passes the metrics of an epoch to the loggers itself: Lightning would do so after the checkpoint of the epoch is
    saved, so that a run killed in between would lack them after it resumes.

    epoch_seconds is the time of the training batches, without validation and checkpoints; images_per_second counts the
    images of all devices. The loggers get that of StepLogger.
    """

    def __init__(self) -> None:
        self.history: dict[int, dict[str, float]] = {}  # metrics by name of each epoch, from 1; 0: before it
        self.start_epoch()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("images", "seconds", "validated", "history")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start_epoch()

    def start_epoch(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.complete = self.validated = False
        self.clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[1]) * trainer.world_size
        if trainer.is_last_batch:
            synchronize()
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now
        self.complete = trainer.is_last_batch

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True
        self.clock = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        speed = self.images / self.seconds if self.seconds else 0.0  # a callback may stop before the first batch
        times = {"epoch_seconds": self.seconds, "images_per_second": speed}
        pl_module.log_dict(times, rank_zero_only=True, logger=False)
        is_current = {"train": self.complete, "val": self.validated}  # otherwise the metrics are of an earlier epoch
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        measured = {name: value for name, value in metrics.items() if is_current.get(name.partition("/")[0])}
        trained = {name: value for name, value in measured.items() if name.startswith("train/")}
        self.history[trainer.current_epoch + 1] = measured | times
        for logger in trainer.loggers:
            epoch = {**trained, "epoch_seconds": self.seconds}
            logger.log_metrics(epoch, step=trainer.global_step - 1)  # Lightning counts from 0
        if trainer.is_global_zero:
            log.info(epoch_line(trainer, measured, times))


def epoch_line(trainer: Trainer, measured: dict[str, float], times: dict[str, float]) -> str:
    """Return "epoch 3/5: train/loss 0.6012, …, val/accuracy 0.9204, 8.1 s, 6,700 images/s"."""
    first = [f"{stage}/{metric}" for stage in ("train", "val") for metric in ("loss", "accuracy")]
    further = [name for name in measured if name.startswith("val/") and name not in first]
    values = [f"{name} {measured[name]:.4f}" for name in [*first, *further] if name in measured]
    speed = f"{times['epoch_seconds']:.1f} s, {times['images_per_second']:,.0f} images/s"
    epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}{epochs}: {', '.join([*values, speed])}"
