"""One line about how far a training is: a bar on a terminal or in a notebook, elsewhere a log line a minute."""

import logging
import math
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as BaseProgressBar
from lightning.pytorch.callbacks import Timer
from pydantic import NonNegativeInt, PositiveFloat
from tqdm import tqdm

from pytorch_intro.training.callbacks.step_logger import StepLogger
from pytorch_intro.training.lightning_internals import callbacks

log = logging.getLogger(__name__)


class ProgressBar(BaseProgressBar):
    """Shows epoch, step, time left for the whole run, loss, the last validation and images per second.

    The time left assumes that the rest takes as long per step as this process has taken so far, with validations and
    checkpoints. Loss and speed are those of callbacks.step_log, so that nothing waits for the device.

    Args:
        refresh_rate: Batches between two updates of the bar; 0: no bar.
        log_every_n_minutes: Time between two log lines, where stdout is no terminal and no notebook; None: no lines.
    """

    def __init__(self, refresh_rate: NonNegativeInt = 20, log_every_n_minutes: PositiveFloat | None = 1.0) -> None:
        super().__init__()
        self.refresh_rate = refresh_rate
        self.log_every_n_minutes = log_every_n_minutes
        self.is_interactive = is_interactive()
        self.is_enabled = True  # not on ranks other than 0
        self.bar: tqdm[Any] | None = None
        self.total_steps = math.inf
        self.clock: float | None = None  # time at the end of the first step of this process, which is slower
        self.first_step = 0
        self.validated = ""  # result of the last validation
        self.logged_at = time.monotonic()

    def disable(self) -> None:
        self.is_enabled = False

    def enable(self) -> None:
        self.is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.total_steps = trainer.estimated_stepping_batches
        self.clock = None
        self.on_validation_end(trainer, pl_module)  # the metrics of a resumed run

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.clock is None:
            self.clock, self.first_step = time.monotonic(), trainer.global_step
        if self.is_due(batch_idx):
            self.show(self.training_line(trainer), trainer.global_step, self.total_steps)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self.is_due(batch_idx):
            text = f"{epoch_of(trainer)}, validation {batch_idx + 1:,}/{sum(trainer.num_val_batches):,}"
            self.show(text, trainer.global_step, self.total_steps)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        monitor = getattr(trainer.checkpoint_callback, "monitor", None) or "val/accuracy"
        if monitor in trainer.callback_metrics:  # read now: in a step, it would wait for the device
            self.validated = f"{monitor} {trainer.callback_metrics[monitor].item():.4f}"

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if self.is_due(batch_idx):
            total = sum(trainer.num_test_batches)
            self.show(f"test {batch_idx + 1:,}/{total:,}", batch_idx + 1, total)

    def close(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    on_train_end = on_test_end = on_exception = close

    def is_due(self, batch: int) -> bool:
        """Return whether to show a line after this batch, counted from 0."""
        if not self.is_enabled:
            return False
        if self.is_interactive:
            return self.refresh_rate > 0 and (batch + 1) % self.refresh_rate == 0
        minutes = self.log_every_n_minutes
        return minutes is not None and time.monotonic() - self.logged_at >= 60 * minutes

    def show(self, text: str, done: int, total: float) -> None:
        if not self.is_interactive:
            log.info(f"progress: {text}")
            self.logged_at = time.monotonic()
            return
        if self.bar is None:
            self.bar = tqdm(file=sys.stdout, dynamic_ncols=True, leave=False, bar_format="{desc} {bar}")
        self.bar.total = total if math.isfinite(total) else None
        self.bar.n = done
        self.bar.set_description_str(text)

    def training_line(self, trainer: Trainer) -> str:
        """Return "epoch 2/6, step 520/1,266, 01:23 left, loss 0.612, val/accuracy 0.9104, 6,700 images/s"."""
        total = f"/{self.total_steps:,}" if math.isfinite(self.total_steps) else ""
        parts = [epoch_of(trainer), f"step {trainer.global_step:,}{total}"]
        left = self.seconds_left(trainer)
        if math.isfinite(left):
            parts.append(f"{tqdm.format_interval(left)} left")
        latest = next((callback.latest for callback in callbacks(trainer) if isinstance(callback, StepLogger)), {})
        if latest:
            parts.append(f"loss {latest['train/loss_step']:.3f}")
        if self.validated:
            parts.append(self.validated)
        if latest:
            parts.append(f"{latest['images_per_second']:,.0f} images/s")
        return ", ".join(parts)

    def seconds_left(self, trainer: Trainer) -> float:
        """Return the expected time until the end of the training; infinity if it is not known."""
        steps = trainer.global_step - self.first_step
        left = math.inf
        if steps and self.clock is not None:
            left = (time.monotonic() - self.clock) / steps * (self.total_steps - trainer.global_step)
        limits = [callback.time_remaining() for callback in callbacks(trainer) if isinstance(callback, Timer)]
        return min(left, *(limit for limit in limits if limit is not None), math.inf)


def is_interactive() -> bool:
    """Return whether stdout is a terminal or a notebook."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")


def epoch_of(trainer: Trainer) -> str:
    """Return "epoch 2/6", counted from 1."""
    epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}{epochs}"
