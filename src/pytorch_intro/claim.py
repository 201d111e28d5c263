"""Who may write in a folder: one run or sweep at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_intro.atomic import write_atomically
from pytorch_intro.errors import UserError

LOCK, HOLDER = ".lock", ".holder"


class OccupiedError(UserError):
    """Another process is at work in a folder."""


@contextmanager
def claimed(folder: Path, what: str, patience: float = 0.0, is_read_only: bool = False) -> Iterator[None]:
    """Keep other processes out; the system gives the folder free when this one ends, however it does.

    Args:
        what: Is in the folder, as the user would say it: run or sweep.
        patience: Seconds to wait for it to be free.
        is_read_only: Whether a folder that cannot be written will do.

    Raises:
        UserError: if another process is at work there (OccupiedError), or if nothing can be written.
    """
    from filelock import FileLock, Timeout  # 50 ms, which --help need not wait for

    holder, lock = folder / HOLDER, FileLock(folder / LOCK, timeout=patience)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        write_atomically(holder, f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        who = holder.read_text() if holder.exists() else "another process"
        raise OccupiedError(
            f"{folder}: {who} is at work on this {what}; wait for it to end, or give this one another name"
        ) from None
    except OSError as error:
        if not is_read_only:
            raise UserError(
                f"{folder}: nothing can be written there ({error.strerror}); choose another place by outputs=DIR"
            ) from error
    try:
        yield
    finally:
        if lock.is_locked:
            holder.unlink(missing_ok=True)
            lock.release()
