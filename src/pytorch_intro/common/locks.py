"""Locks on folders: one process at a time writes to a run or a sweep."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import write_atomically

LOCK, LOCK_OWNER = ".lock", ".holder"


class FolderLockedError(UserError):
    """Another process has locked the folder."""


@contextmanager
def lock_folder(folder: Path, timeout: float = 0.0, is_read_only: bool = False) -> Iterator[None]:
    """Create and lock a folder; the operating system releases the lock when this process ends, however it ends.

    `timeout` is in seconds. With `is_read_only`, a folder without write permission is not an error.
    """
    from filelock import FileLock, Timeout  # 50 ms, which --help does not need

    owner, lock = folder / LOCK_OWNER, FileLock(folder / LOCK, timeout=timeout)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        write_atomically(owner, f"process {os.getpid()} on {socket.gethostname()}")
    except Timeout:
        who = owner.read_text() if owner.exists() else "another process"
        raise FolderLockedError(f"{folder}: locked by {who}; wait for it to finish, or use another name=NAME") from None
    except OSError as error:
        if not is_read_only:
            raise UserError(f"{folder}: not writable ({error.strerror}); use another outputs=DIR") from error
    try:
        yield
    finally:
        if lock.is_locked:
            owner.unlink(missing_ok=True)
            lock.release()
