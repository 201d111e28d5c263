"""Explain why a run failed, in one sentence with a remedy: disk full, out of memory, a killed worker."""

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.common.errors import RunError, UserError, exception_chain, first_lines

DISK = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your disk quota is used up; free some space",
    errno.EFBIG: "a file would become larger than the system allows; raise the limit",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "no permission to write a file; make it writable",
}
RESUME_HINT = "rerun the same command to resume from the last checkpoint"
RETRY_HINT = "rerun the same command"  # for commands without checkpoints
OUT_OF_MEMORY = r"out of memory|can't allocate memory|not enough memory"
LOST_RANK = r"(gloo|NCCL).*(closed|reset|peer|pipe|remote process|aborted|[Tt]imed out|[Tt]imeout)"
KILLED_WORKER = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)"


@contextmanager
def mute_tensorboard_thread() -> Iterator[None]:
    """Print no traceback when TensorBoard's writer thread fails: the main thread gets the same error."""
    excepthook = threading.excepthook

    def filtered_excepthook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__name__ != "_AsyncWriterThread":
            excepthook(failure)

    threading.excepthook = filtered_excepthook
    try:
        yield
    finally:
        threading.excepthook = excepthook


def explain_failure(error: Exception, config: DictConfig) -> tuple[str, int] | None:
    """Return the sentence for an error of a task and its exit code, 2 or 1; None if the error is not known."""
    # The last is Lightning's for wrong arguments, by its name: importing Lightning takes seconds.
    if isinstance(error, UserError) or type(error).__name__ == "MisconfigurationException":
        return first_lines(error), 2
    if isinstance(error, OmegaConfBaseException):
        return f"{first_lines(error)}; see --cfg job", 2
    fault = explain_fault(error, config)
    return None if fault is None else (fault, 1)


def explain_fault(error: BaseException, config: DictConfig) -> str | None:
    """Return the sentence for an error that is not a user mistake; None if it is not known."""
    if isinstance(error, RunError):
        return str(error)
    hint = RESUME_HINT if "resume" in config else RETRY_HINT
    is_missing = any(isinstance(cause, FileNotFoundError) for cause in exception_chain(error))
    if is_missing and "resume" in config and not Path(config.run_dir).is_dir():
        return (
            f"{config.run_dir}: the run folder was moved or removed during the run; if you moved it, resume it with "
            "resume=DIR"
        )
    for cause in exception_chain(error):
        if isinstance(cause, OSError) and cause.errno in DISK:
            explained = DISK[cause.errno].replace(";", f" ({cause.filename});" if cause.filename else ";")
            return f"{config.run_dir}: {explained}, then {hint}"
    settings, prefix = (config.data, "data.") if "data" in config else (config, "")
    if "batch_size" not in settings:  # a benchmark, whose trainings run in other processes and print their errors
        return None
    message = first_lines(error)
    # For the CPU, torch has no type of error.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and re.search(OUT_OF_MEMORY, message)):
        size, name = settings.batch_size, ", under a new name=NAME" if prefix else ""
        smaller = f"{prefix}batch_size={size // 2}{name}" if size > 1 else "a smaller data.image_size or model"
        details = message.split(";")[0].split(". ")[0] or "MemoryError"
        return f"{prefix}batch_size={size}: out of memory ({details}); try {smaller}"
    if isinstance(error, RuntimeError) and re.search(LOST_RANK, message):
        return f"{config.run_dir}: another rank of the training ended; see its own error, then {hint}"
    if worker := re.search(KILLED_WORKER, message):
        return (
            f"{prefix}num_workers={settings.num_workers}: DataLoader worker (pid {worker[1].strip()}) was killed, "
            f"probably out of memory; free some memory, then {hint}"
        )
    return None
