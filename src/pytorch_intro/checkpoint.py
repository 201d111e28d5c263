"""Checkpoint files that are there whole or not at all."""

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field

from pytorch_intro.atomic import atomic_write
from pytorch_intro.errors import UserError
from pytorch_intro.processes import highest
from pytorch_intro.run_folder import BEST, LAST, PREVIOUS, REPLACED, remove


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, flushes to the disk, then renames; whatever happens, no half file has its name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


class BestAndLast(Checkpoint):
    """Keeps last.ckpt, previous.ckpt, which was the last before, and best.ckpt, of the best validation.

    Where the best is the last, which is so in most epochs, one file is written and has two names. Lightning's
    ModelCheckpoint would write it twice, and knows no last where there is no best.

    A checkpoint tells how long the files of the loggers were when it was written, so that a run carried on from it
    adds to them what followed, once.

    Args:
        dirpath: The folder, in the run's folder.
        monitor: The validation's metric that tells the best; without validation, the best is the last.
        mode: Whether the best has the highest value or the lowest.
        every_n_minutes: How often the last is written within long epochs; None: at their ends only.

    Raises:
        UserError: if the validation has no such metric.
    """

    def __init__(
        self,
        dirpath: str,
        monitor: str = "val/accuracy",
        mode: Literal["max", "min"] = "max",
        every_n_minutes: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        self.last = Path(dirpath) / LAST
        self.previous = Path(dirpath) / PREVIOUS
        self.best = Path(dirpath) / BEST
        self.monitor = monitor
        self.every_n_minutes = every_n_minutes
        self.sign = 1 if mode == "max" else -1
        self.best_model_path = ""
        self.best_model_score: float | None = None
        self.last_is_best = False
        self.saved_at = self.started_at = time.monotonic()
        self.seconds_before = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at = self.started_at = time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_seconds"] = self.seconds_before + time.monotonic() - self.started_at
        checkpoint["log_files"] = lengths_of_log_files(trainer, self.last.parent.parent)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.seconds_before = checkpoint["train_seconds"]

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_model_score = state_dict["best_model_score"]
        self.best_model_path = str(self.best) if self.best.exists() else ""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not self.is_best(trainer):
            return
        self.last_is_best = trainer.is_last_batch
        if not self.last_is_best:  # in the midst of an epoch
            self.save_best(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_minutes is None or not can_be_saved(trainer, batch_idx):
            return
        if highest(time.monotonic() - self.saved_at > 60 * self.every_n_minutes):
            self.save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (self.last_is_best or self.best_model_score is None):
            self.save_last(trainer)
            return
        self.save_best(trainer)
        if trainer.is_global_zero and self.best_model_path:
            self.keep_previous()
            give_second_name(self.best, self.last)  # afterwards: the last must not tell of a best that is not there yet
        trainer.strategy.barrier()
        self.last_is_best = False
        self.saved_at = time.monotonic()

    def is_best(self, trainer: Trainer) -> bool:
        """Whether this validation was the best so far, or the first one that gave a number."""
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise UserError(
                f"callbacks.checkpoint.monitor={self.monitor}: the validation has no such metric but {known}"
            )
        score, best = trainer.callback_metrics[self.monitor].item(), self.best_model_score
        if best is not None and not math.isnan(best) and not self.sign * score > self.sign * best:
            return False
        self.best_model_score = score
        return True

    def save_best(self, trainer: Trainer) -> None:
        self.save(trainer, self.best)
        self.best_model_path = "" if trainer.fast_dev_run else str(self.best)  # type: ignore[attr-defined]

    def save_last(self, trainer: Trainer) -> None:
        """Write last.ckpt; the one that was there becomes previous.ckpt."""
        if trainer.is_global_zero:
            self.keep_previous()
        self.save(trainer, self.last)
        self.saved_at = time.monotonic()

    def keep_previous(self) -> None:
        if self.last.exists():
            give_second_name(self.last, self.previous)

    def save(self, trainer: Trainer, path: Path) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(path, weights_only=False)
            if trainer.is_global_zero:
                remove(self.last.parent.parent / REPLACED)  # the run that this one takes the place of


def can_be_saved(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a checkpoint after this batch holds all there is: gradients are used up, and no validation follows."""
    if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
        return False
    number = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    interval = trainer.val_check_batch  # a number of batches, or inf or None where it is measured otherwise
    return not (trainer.enable_validation and isinstance(interval, int) and (number + 1) % interval == 0)


def lengths_of_log_files(trainer: Trainer, folder: Path) -> dict[str, int]:
    """Of the loggers' files in a folder, with all that has been logged so far; see length."""
    lengths = {}
    for logger in trainer.loggers if trainer.is_global_zero else []:
        logger.save()
        if logger.log_dir and Path(logger.log_dir).is_relative_to(folder):
            files = [path for path in Path(logger.log_dir).rglob("*") if is_log(path) and path.parent != folder]
            lengths.update({path.relative_to(folder).as_posix(): length(path) for path in files})
    return lengths


def is_log(path: Path) -> bool:
    """Whether it is a file of curves, by its name."""
    return path.suffix == ".csv" or path.name.startswith("events.out.tfevents")


def length(path: Path) -> int:
    """Of a table its lines, for it is written anew when it gets another column; of any other log its bytes."""
    return len(path.read_bytes().splitlines()) if path.suffix == ".csv" else path.stat().st_size


def give_second_name(file: Path, name: Path) -> None:
    """Make the name one of the same file, or of a copy where there can be only one; it is never missing or half."""
    beside = name.with_suffix(".linked")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(file)
    except OSError:  # as on exFAT
        with file.open("rb") as content, atomic_write(name) as copy:
            shutil.copyfileobj(content, copy)
        return
    beside.replace(name)


@dataclass
class ChosenWeights:
    """The weights that are tested and used: the best by validation, or the last where none were saved.

    Attributes:
        path: Their checkpoint; None for the weights that the training ended with.
        epoch: The epoch that they come from, counted from 1.
        metrics: val/… of these weights, and what else was measured in the last epoch.
    """

    path: str | None
    epoch: int
    metrics: dict[str, float]


def chosen_weights(trainer: Trainer) -> ChosenWeights:
    """The weights to test after trainer.fit, with the validation's figures as they were saved beside them."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path:
        return ChosenWeights(None, trainer.current_epoch, metrics)
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    of_last_epoch = {name: value for name, value in metrics.items() if not name.startswith("val/")}
    return ChosenWeights(path, checkpoint["epoch"] + 1, checkpoint["metrics"] | of_last_epoch)
