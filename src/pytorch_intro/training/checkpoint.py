"""Checkpoints, written atomically: the last and the best of a run, and which one is tested."""

import errno
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, Timer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import PositiveFloat
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pytorch_intro.common.distributed import all_reduce_max
from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_write, remove
from pytorch_intro.runs.code import hash_code
from pytorch_intro.runs.config_record import load_extensions, run_id
from pytorch_intro.runs.folder import BEST, LAST, PREVIOUS, REPLACED
from pytorch_intro.runs.logs import log_sizes
from pytorch_intro.training.lightning_internals import callbacks, is_resumable_step

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Saves to a temporary file, flushes it to the disk and renames it, so that no checkpoint is ever incomplete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


class BestLastCheckpoint(Checkpoint):
    """Keeps best.ckpt (the best `monitor` of a validation), last.ckpt and previous.ckpt (the last.ckpt before).

    Of validations with the same score, the one with the lowest val/loss is the best; the first, if that is equal too.

    last.ckpt is saved on three occasions: at the end of each epoch, every n minutes within an epoch (unless None), and
    by GracefulShutdown when a signal arrives. best.ckpt is saved after a validation; without any, it is the last.

    In most epochs the best is the last: then one file is written, and both names are hard links to it. Lightning's
    ModelCheckpoint would write it twice, and keeps no last without a best.

    A checkpoint records the size of the log files, so that a run resumed from it logs everything exactly once, and
    whether a callback has stopped the training or frozen parameters, so that both stay so. It also records hashes of
    the user's own code.

    Args:
        mode: Whether more or less of `monitor` is better; None in a config: follows from the metric, see monitors.py.
        every_n_minutes: Time between two checkpoints within an epoch.
    """

    def __init__(
        self, dirpath: str, monitor: str, mode: Literal["max", "min"], every_n_minutes: PositiveFloat | None
    ) -> None:
        self.run_folder = Path(dirpath).parent
        self.last, self.previous, self.best = (Path(dirpath) / name for name in (LAST, PREVIOUS, BEST))
        self.monitor = monitor
        self.every_n_minutes = every_n_minutes
        self.sign = 1 if mode == "max" else -1
        self.best_model_path = ""
        self.best_model_score: float | None = None
        self.best_loss = math.inf  # val/loss of the best
        self.last_is_best = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at = time.monotonic()
        self.code = hash_code()  # not when a checkpoint is saved: the user may edit files during the training

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        loggers = trainer.loggers if trainer.is_global_zero else []
        for logger in loggers:
            logger.save()  # flushes its files
        checkpoint["log_files"] = log_sizes(self.run_folder, [logger.log_dir for logger in loggers])
        checkpoint["run_id"] = run_id(self.run_folder)
        checkpoint["code"] = self.code
        checkpoint["should_stop"] = trainer.should_stop
        checkpoint["num_extensions"] = len(load_extensions(self.run_folder))
        parts = freezable_parts(pl_module)
        checkpoint["frozen"] = [name for name, (part, flag) in parts.items() if not getattr(part, flag)]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        is_extended = len(load_extensions(self.run_folder)) > checkpoint["num_extensions"]
        trainer.should_stop = checkpoint["should_stop"] and not is_extended
        for name, (part, flag) in freezable_parts(pl_module).items():
            setattr(part, flag, name not in checkpoint["frozen"])
        for callback in callbacks(trainer):
            if isinstance(callback, EarlyStopping) and callback.state_key in checkpoint["callbacks"]:
                # Lightning would restore it, too, but resume=DIR may have changed it.
                checkpoint["callbacks"][callback.state_key]["patience"] = callback.patience

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best_model_score": self.best_model_score, "best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_model_path = str(self.best) if self.best.exists() else ""
        if state_dict.get("monitor", self.monitor) != self.monitor:  # changed by resume=DIR: scores do not compare
            log.info(f"best.ckpt: the next validation replaces it, since {self.monitor} is monitored now")
            return
        self.best_model_score = state_dict["best_model_score"]
        self.best_loss = state_dict.get("best_loss", -math.inf)  # of an older version: equal scores replace nothing

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not self.is_best(trainer):
            return
        self.last_is_best = trainer.is_last_batch
        if not self.last_is_best:  # a validation within an epoch
            self.save_best(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_minutes is None:
            return
        is_due = all_reduce_max(time.monotonic() - self.saved_at > 60 * self.every_n_minutes)  # on all ranks
        if is_due and is_resumable_step(trainer):
            self.save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_best = self.last_is_best or self.best_model_score is None
        if is_best:
            self.save_best(trainer)  # before the last: last.ckpt must not refer to a missing best.ckpt
        self.save_last(trainer, is_best)
        self.last_is_best = False

    def is_best(self, trainer: Trainer) -> bool:
        """Return whether this validation is the best so far, or the first whose score is not NaN."""
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise UserError(
                f"callbacks.checkpoint.monitor={self.monitor}: no such validation metric; choose from {known}"
            )
        score, best = trainer.callback_metrics[self.monitor].item(), self.best_model_score
        loss = trainer.callback_metrics["val/loss"].item() if "val/loss" in trainer.callback_metrics else math.inf
        if best is not None and not math.isnan(best):
            is_better = self.sign * score > self.sign * best or (score == best and loss < self.best_loss)
            if not is_better:
                return False
        self.best_model_score, self.best_loss = score, loss
        return True

    def best_metric(self) -> dict[str, float]:
        """Return the best score by name, as in {"val/best_accuracy": 0.92}; empty without a validation."""
        stage, _, metric = self.monitor.rpartition("/")
        return {} if self.best_model_score is None else {f"{stage}/best_{metric}": self.best_model_score}

    def save_best(self, trainer: Trainer) -> None:
        self.save(trainer, self.best)
        self.best_model_path = str(self.best)

    def save_last(self, trainer: Trainer, is_best: bool = False) -> None:
        """Save last.ckpt, or link it to best.ckpt if that is the same; the existing one becomes previous.ckpt."""
        if trainer.is_global_zero and self.last.exists():
            hardlink_or_copy(self.last, self.previous)
        if not is_best:
            self.save(trainer, self.last)
        elif trainer.is_global_zero:
            hardlink_or_copy(self.best, self.last)
        trainer.strategy.barrier()
        self.saved_at = time.monotonic()

    def save(self, trainer: Trainer, path: Path) -> None:
        if not self.run_folder.is_dir():  # do not create it again, without its config
            raise FileNotFoundError(errno.ENOENT, "the run folder is gone", str(self.run_folder))
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            remove(self.run_folder / REPLACED)  # the run that overwrite=true replaces


def freezable_parts(module: nn.Module) -> dict[str, tuple[nn.Parameter | nn.Module, str]]:
    """Return what callbacks such as Lightning's BaseFinetuning freeze, by name: the owner of a flag, and the flag.

    A state dict has the parameters and the statistics of batch norms, but not these flags.
    """
    parameters = {name: (parameter, "requires_grad") for name, parameter in module.named_parameters()}
    norms = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    return {**parameters, **{name: (norm, "track_running_stats") for name, norm in norms.items()}}


def hardlink_or_copy(file: Path, name: Path) -> None:
    """Make `name` a hard link to a file, or a copy if links are not supported; atomically in both cases."""
    link = name.with_suffix(".linked")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(file)
    except OSError:  # exFAT, for example
        with file.open("rb") as content, atomic_write(name) as copy:
            shutil.copyfileobj(content, copy)
    else:
        link.replace(name)


class SelectedCheckpoint(NamedTuple):
    """The weights that are tested and used: the best by validation, or the last if no checkpoint was saved."""

    path: str | None  # None: the weights in memory at the end of training
    epoch: int  # counted from 1; 0: before the first
    metrics: dict[str, float]  # val/… of these weights, all other metrics of the last epoch, and train_seconds


def select_checkpoint(trainer: Trainer) -> SelectedCheckpoint:
    """Return the weights to test after trainer.fit, with the validation metrics saved with them."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    timer = next(callback for callback in callbacks(trainer) if isinstance(callback, Timer))
    metrics["train_seconds"] = timer.time_elapsed()  # trainer.test will restore the timer from the checkpoint
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path:
        return SelectedCheckpoint(None, trainer.current_epoch, metrics)
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    of_last_epoch = {name: value for name, value in metrics.items() if not name.startswith("val/")}
    epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"]
    return SelectedCheckpoint(path, epoch, checkpoint["metrics"] | of_last_epoch)
