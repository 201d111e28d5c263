"""Where an interrupted run goes on: the newest checkpoint that is whole, and logs that end where it was written."""

import logging
import os
import pickle
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

from pytorch_intro.atomic import atomic_write
from pytorch_intro.checkpoint import is_log
from pytorch_intro.errors import UserError, one_line
from pytorch_intro.processes import is_first_process
from pytorch_intro.run_folder import BEST, LAST, PREVIOUS

log = logging.getLogger(__name__)

PICKLE = b"\x80"  # the first byte of one; checkpoints are zip archives
KEYS = {"state_dict", "loops", "callbacks", "optimizer_states", "global_step", "epoch", "train_seconds", "log_files"}


class Resumed(NamedTuple):
    """What a run goes on from.

    Attributes:
        path: The checkpoint; None for a run that starts from nothing.
        train_seconds: How long it had been trained.
    """

    path: Path | None
    train_seconds: float


def checkpoint_to_resume(folder: Path) -> Resumed:
    """Find the checkpoint in a run's folder that it goes on from, and cut its logs where that was written.

    Raises:
        UserError: if a file in a checkpoint's place holds anything else.
    """
    resumed, log_files = Resumed(None, 0.0), {}
    for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)):
        checkpoint = read_checkpoint(path) if path.exists() else None
        if checkpoint and (not has_best(checkpoint) or has_whole_best(path.with_name(BEST))):
            log.info(
                "carried on after step %d, in epoch %d: %s", checkpoint["global_step"], checkpoint["epoch"] + 1, path
            )
            resumed, log_files = Resumed(path, checkpoint["train_seconds"]), checkpoint["log_files"]
            break
    if is_first_process():
        cut_logs(folder, log_files)
    return resumed


def has_whole_best(path: Path) -> bool:
    """Whether best.ckpt is there and whole."""
    return path.exists() and read_checkpoint(path) is not None


def has_best(checkpoint: dict[str, Any]) -> bool:
    """Whether there was a best.ckpt when this one was written."""
    return any(state.get("best_model_score") is not None for state in checkpoint["callbacks"].values())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, on the host; None, and a warning, if it is not whole.

    Raises:
        UserError: if it holds anything but a checkpoint of this project; nothing in it is run.
    """
    if not path.is_file():
        raise UserError(f"{path}: it is no file; remove it, or choose another folder")
    try:
        with path.open("rb") as file:
            if file.read(1) == PICKLE:
                raise pickle.UnpicklingError
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} in it is damaged")
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: it holds other things than tensors and plain values, and was not loaded; it is no checkpoint of "
            "this project: remove it, or choose another folder"
        ) from error
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        log.warning("%s cannot be read: %s", path, one_line(error))
        return None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= KEYS or not are_logs(checkpoint["log_files"]):
        raise UserError(f"{path}: it is no checkpoint of this project; remove it, or choose another folder")
    return checkpoint


def are_logs(lengths: object) -> bool:
    """Whether these are lengths of files in folders of the run's folder, and no others."""
    if not isinstance(lengths, dict):
        return False
    paths = [PurePosixPath(str(name)) for name in lengths]
    outside = [path for path in paths if path.is_absolute() or ".." in path.parts or len(path.parts) < 2]
    protected = [path for path in paths if path.parts[:1] == ("checkpoints",)]
    return not outside and not protected and all(isinstance(length, int) for length in lengths.values())


def cut_logs(folder: Path, lengths: dict[str, int]) -> None:
    """Take from the loggers' files what was logged after the checkpoint: it will be logged again.

    Args:
        lengths: Of the files when it was written, in lines of a table and bytes of any other.
    """
    for kind in {"tensorboard", "csv", *(name.split("/")[0] for name in lengths)}:
        if (folder / kind).is_symlink():
            raise UserError(f"{folder / kind}: it is a link, and files behind it are not touched; put a folder there")
        for file in [path for path in (folder / kind).rglob("*") if path.is_file() and not path.is_symlink()]:
            name = file.relative_to(folder).as_posix()
            if name not in lengths:
                if is_log(file):
                    file.unlink()
            elif file.suffix == ".csv":
                with atomic_write(file) as cut:
                    cut.writelines(file.read_bytes().splitlines(keepends=True)[: lengths[name]])
            elif file.stat().st_size > lengths[name]:
                os.truncate(file, lengths[name])
    for left in [*(folder / "checkpoints").glob(".*.tmp"), *(folder / "checkpoints").glob("*.linked")]:
        left.unlink()
