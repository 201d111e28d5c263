"""Checkpoint files that are there whole or not at all."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from pytorch_intro.atomic import atomic_write
from pytorch_intro.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, flushes to the disk, then renames; whatever happens, no half file has its name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


class BestAndLast(Checkpoint):
    """Keeps last.ckpt, of the last epoch, and best.ckpt, of the best validation.

    Where the best is the last, which is so in most epochs, one file is written and has two names. Lightning's
    ModelCheckpoint would write it twice, and knows no last where there is no best.

    Args:
        dirpath: The folder.
        monitor: The validation's metric that tells the best; without validation, the best is the last.
        mode: Whether the best has the highest value or the lowest.

    Raises:
        UserError: if the validation has no such metric.
    """

    def __init__(self, dirpath: str, monitor: str = "val/accuracy", mode: Literal["max", "min"] = "max") -> None:
        self.last = Path(dirpath) / "last.ckpt"
        self.best = Path(dirpath) / "best.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.best_model_path = ""
        self.best_model_score: float | None = None
        self.last_is_best = False

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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (self.last_is_best or self.best_model_score is None):
            self.save(trainer, self.last)
            return
        self.save_best(trainer)
        if trainer.is_global_zero and self.best_model_path:
            give_second_name(self.best, self.last)  # afterwards: the last must not tell of a best that is not there yet
        trainer.strategy.barrier()
        self.last_is_best = False

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

    def save(self, trainer: Trainer, path: Path) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(path, weights_only=False)


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
    return ChosenWeights(path, checkpoint["epoch"] + 1, metrics | checkpoint["metrics"])
