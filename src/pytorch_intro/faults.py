"""What ends a run through no mistake in its settings, told in one sentence with a remedy."""

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.errors import UserError, chain, one_line

DISK = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "your share of the disk is used up; make room",
    errno.EFBIG: "a file would become larger than the system allows; make room",
    errno.EROFS: "the disk can only be read; let it be written",
    errno.EACCES: "a file may not be written; let it be written",
}

CARRY_ON = "the same command carries on from the last checkpoint"
ONCE_MORE = "start the same command once more"  # of one that has no checkpoints


LIGHTNING_MISTAKE = "MisconfigurationException"  # an exception of its own, which is not worth importing it for


@contextmanager
def told_once() -> Iterator[None]:
    """Let the thread that writes TensorBoard's files fail in silence: the main thread gets its error, and tells it."""
    tell = threading.excepthook

    def tell_others(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__name__ != "_AsyncWriterThread":
            tell(failure)

    threading.excepthook = tell_others
    try:
        yield
    finally:
        threading.excepthook = tell


class RunError(Exception):
    """A fault that was found by this project: one sentence, with what to try."""


def explain_failure(error: Exception, config: DictConfig) -> tuple[str, int] | None:
    """The sentence for what ended a run, and the exit code: 2 for the user's mistake, 1 for a fault.

    None if no sentence is known.
    """
    if isinstance(error, (UserError, OmegaConfBaseException)) or type(error).__name__ == LIGHTNING_MISTAKE:
        return one_line(error), 2
    fault = explain_fault(error, config)
    return None if fault is None else (fault, 1)


def explain_fault(error: BaseException, config: DictConfig) -> str | None:
    """The sentence for an error that ended a run; None for one that nothing is known of but its traceback."""
    if isinstance(error, RunError):
        return str(error)
    then = CARRY_ON if "resume" in config else ONCE_MORE
    for cause in chain(error):
        if isinstance(cause, OSError) and cause.errno in DISK:
            where = f" ({cause.filename})" if cause.filename else ""
            return f"{config.run_dir}: {DISK[cause.errno]}{where}, and {then}"
    settings, prefix = (config.data, "data.") if "data" in config else (config, "")
    if "batch_size" not in settings:  # a benchmark that trains in processes of its own, which say what befell them
        return None
    message = one_line(error) if isinstance(error, Exception) else ""
    if is_out_of_memory(error, message):
        return out_of_memory(message, f"{prefix}batch_size", settings.batch_size)
    if dead := re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", message):
        return (
            f"{prefix}num_workers={settings.num_workers}: a process that fetches images (number {dead[1].strip()}) "
            f"was killed or ended by itself, as the system has it when memory runs out; make some free, and {then}"
        )
    return None


def is_out_of_memory(error: BaseException, message: str) -> bool:
    """Of the host or a device: torch has a type for cuda's alone."""
    words = r"out of memory|can't allocate memory|not enough memory"
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(re.search(words, message)))


def out_of_memory(message: str, key: str, size: int) -> str:
    other = ", which is a run with another name" if key.startswith("data.") else ""
    smaller = f"{key}={size // 2}{other}" if size > 1 else "smaller images (data.image_size) or a smaller network"
    details = message.split(";")[0].split(". ")[0] or "MemoryError"
    return f"{key}={size}: out of memory ({details}); try {smaller}"
