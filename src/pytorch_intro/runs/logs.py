"""The log files of a run: their sizes at a checkpoint, and how a resumed run truncates them."""

import os
from collections.abc import Iterable
from pathlib import Path

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import atomic_write

LOG_DIRS = ("tensorboard", "csv", "mlflow", "wandb")  # in a run folder


def is_log(path: Path) -> bool:
    """Return whether a file is a CSV table, a TensorBoard event file or the rows of loggers/, by its name."""
    return path.suffix == ".csv" or path.name.startswith("events.out.tfevents") or path.name == "metrics.jsonl"


def log_size(path: Path) -> int:
    """Return the lines of a CSV table, which is rewritten when a column is added, or the bytes of any other log."""
    return len(path.read_bytes().splitlines()) if path.suffix == ".csv" else path.stat().st_size


def log_sizes(folder: Path, log_dirs: Iterable[str | Path | None]) -> dict[str, int]:
    """Return the sizes of the logs in subfolders of a run folder, by relative path; see log_size.

    The loggers must have flushed their files; folders outside of the run folder are skipped.
    """
    inside = [Path(log_dir) for log_dir in log_dirs if log_dir and Path(log_dir).is_relative_to(folder)]
    files = [path for log_dir in inside for path in log_dir.rglob("*") if is_log(path) and path.parent != folder]
    return {path.relative_to(folder).as_posix(): log_size(path) for path in files}


def truncate_logs(folder: Path, sizes: dict[str, int]) -> None:
    """Truncate logs to their size at the time of a checkpoint, and remove newer ones: training logs the rest again.

    `sizes` are those of log_sizes. The checkpoint may come from elsewhere: its names are only compared with those of
    logs in the run folder.
    """
    kinds = {*LOG_DIRS, *(str(name).partition("/")[0] for name in sizes)}
    for log_dir in [path for path in folder.iterdir() if path.name in kinds]:
        if log_dir.is_symlink():
            raise UserError(f"{log_dir}: symlinks are not supported here; replace it with a folder")
        for file in [path for path in log_dir.rglob("*") if is_log(path) and path.is_file() and not path.is_symlink()]:
            size = sizes.get(file.relative_to(folder).as_posix())
            if not isinstance(size, int):
                file.unlink()
            elif file.suffix == ".csv":
                with atomic_write(file) as truncated:
                    truncated.writelines(file.read_bytes().splitlines(keepends=True)[:size])
            elif file.stat().st_size > size:
                os.truncate(file, size)
