"""Where an interrupted run resumes: its newest intact checkpoint, with the logs truncated to that time."""

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.runs.folder import BEST, LAST, PREVIOUS
from pytorch_intro.runs.logs import are_valid_log_sizes, truncate_logs

log = logging.getLogger(__name__)

PICKLE = b"\x80"  # first byte of a pickle; checkpoints are zip archives
KEYS = {"state_dict", "loops", "callbacks", "optimizer_states", "global_step", "epoch", "log_files"}


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Find the checkpoint that a run resumes from, and truncate its logs to the time of the checkpoint.

    Raises:
        UserError: if a checkpoint file holds anything but a checkpoint of this project.
    """
    resumed, log_files = None, {}
    for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)):
        checkpoint = read_checkpoint(path)
        if checkpoint and (not has_best(checkpoint) or read_checkpoint(path.with_name(BEST))):
            log.info("resuming from %s (epoch %d, step %d)", path, checkpoint["epoch"] + 1, checkpoint["global_step"])
            resumed, log_files = path, checkpoint["log_files"]
            break
    if is_rank_zero():
        truncate_logs(folder, log_files)
        for leftover in [*(folder / "checkpoints").glob(".*.tmp"), *(folder / "checkpoints").glob("*.linked")]:
            leftover.unlink()
    return resumed


def has_best(checkpoint: dict[str, Any]) -> bool:
    """Return whether best.ckpt existed when a checkpoint was saved."""
    return any(state.get("best_model_score") is not None for state in checkpoint["callbacks"].values())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint to the CPU; return None if it is missing, or corrupt, which is logged.

    Raises:
        UserError: if it holds anything but a checkpoint of this project; no code in it is run.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise UserError(f"{path}: not a file; remove it, or choose another folder")
    try:
        with path.open("rb") as file:
            if file.read(1) == PICKLE:
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
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        log.warning("corrupt checkpoint, not used: %s (%s)", path, first_lines(error))
        return None
    is_ours = isinstance(checkpoint, dict) and checkpoint.keys() >= KEYS
    if not is_ours or not are_valid_log_sizes(checkpoint["log_files"]):
        raise UserError(f"{path}: not a checkpoint of this project; remove it, or choose another folder")
    return checkpoint
