"""Where an interrupted run resumes: its newest intact checkpoint, with the logs truncated to that time."""

import logging
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.data.changes import describe_change
from pytorch_intro.runs.code import changed_code
from pytorch_intro.runs.config_record import CONFIG, run_id
from pytorch_intro.runs.folder import BEST, LAST, PREVIOUS
from pytorch_intro.runs.logs import truncate_logs

log = logging.getLogger(__name__)

KEYS = {"state_dict", "loops", "callbacks", "optimizer_states", "global_step", "epoch", "log_files"}


def check_unchanged(folder: Path, images: Mapping[str, Any]) -> None:
    """Raise a UserError if the images have changed since the run began; log a warning if the user's code has.

    With other images, the run may have trained on today's test images.

    Args:
        images: Description of the images: the hyperparameters of the DataModule.
    """
    for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)):
        try:
            checkpoint = torch.load(path, weights_only=True, mmap=True)  # reads no weights
            trained = checkpoint["datamodule_hyper_parameters"]
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
            continue  # there is none, or read_checkpoint will say what is wrong with it
        if change := describe_change(trained, images):
            raise UserError(
                f"data: {change} since the run began; use the original images (data.root=DIR), or start another run "
                "(name=NAME)"
            )
        if changed := changed_code(checkpoint.get("code", {})):
            level = logging.WARNING if is_rank_zero() else logging.INFO
            log.log(level, "code: %s changed since the run began; it continues with the new code", ", ".join(changed))
        return


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Find the checkpoint that a run resumes from, and truncate its logs to the time of the checkpoint."""
    resumed, checkpoint = find_checkpoint(folder)
    if checkpoint:
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        where = "within" if epochs["ready"] > epochs["processed"] else "end of"
        position = f"{where} epoch {checkpoint['epoch'] + 1}, step {checkpoint['global_step']}"
        log.info("resuming from %s (%s)", resumed, position)
    if is_rank_zero():
        truncate_logs(folder, checkpoint["log_files"] if checkpoint else {})
        for leftover in [*(folder / "checkpoints").glob(".*.tmp"), *(folder / "checkpoints").glob("*.linked")]:
            leftover.unlink()
    return resumed


def find_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """Return the newest intact checkpoint of a run and its content; None if there is none."""
    for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)):
        checkpoint = read_checkpoint(path)
        if checkpoint and (not has_best(checkpoint) or read_checkpoint(path.with_name(BEST))):
            return path, checkpoint
    return None, None


def check_extension(folder: Path, changes: dict[str, Any]) -> None:
    """Raise a UserError if changed settings allow fewer epochs than the run has begun."""
    max_epochs = changes.get("trainer.max_epochs")
    checkpoint = read_checkpoint(folder / "checkpoints" / LAST) if max_epochs is not None else None
    if checkpoint is None or max_epochs == -1:
        return
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"]
    if max_epochs < epochs:
        raise UserError(f"trainer.max_epochs={max_epochs}: the run has {epochs} epochs; use a larger value")


def has_best(checkpoint: dict[str, Any]) -> bool:
    """Return whether best.ckpt existed when a checkpoint was saved."""
    return any(state.get("best_model_score") is not None for state in checkpoint["callbacks"].values())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint to the CPU, without running code in it; return None if it is missing, or corrupt (logged)."""
    if not path.exists():
        return None
    if not path.is_file():
        raise UserError(f"{path}: not a file; remove it, or choose another folder")
    try:
        with path.open("rb") as file:
            if file.read(1) == b"\x80":  # a pickle; checkpoints are zip archives
                raise pickle.UnpicklingError
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a checkpoint of this project (it holds more than tensors and plain values, and was not "
            "loaded); remove it, or choose another folder"
        ) from error
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, UnicodeDecodeError) as error:
        log.warning("corrupt checkpoint, not used: %s (%s)", path, first_lines(error))
        return None
    is_ours = isinstance(checkpoint, dict) and checkpoint.keys() >= KEYS
    if not is_ours or not isinstance(checkpoint["log_files"], dict):
        raise UserError(f"{path}: not a checkpoint of this project; remove it, or choose another folder")
    ours, theirs = run_id(path.parents[1]), checkpoint.get("run_id")
    if ours and theirs and ours != theirs:  # older versions have no ID
        raise UserError(
            f"{path}: belongs to another run than {path.parents[1] / CONFIG} (run ID {theirs}, not {ours}); put the "
            "run's own checkpoint back, or start a run from these weights: model.weights=FILE"
        )
    return checkpoint
