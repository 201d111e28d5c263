"""Write files and folders atomically (complete or not at all), archive and remove them."""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pytorch_intro.common.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode())


def unique_suffix() -> str:
    """Return text that no other process uses: in containers that share a disk, processes may have the same ID."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is flushed and renamed to `path` on success, and removed on failure."""
    temporary = path.with_name(f".{path.name}.{unique_suffix()}.tmp")
    try:
        with temporary.open("xb") as file:  # "x": never write through a symlink
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable_directory(path: Path) -> None:
    """Raise a UserError if a path is a file or a link: atomic_directory replaces folders only."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError(f"{path}: is {'a link' if path.is_symlink() else 'a file'}, not a folder; move or rename it")


@contextmanager
def atomic_directory(path: Path, names: Collection[str] | None = None) -> Iterator[Path]:
    """Create a temporary folder that replaces `path` on success, and is removed on failure.

    Args:
        names: Files of `path` to replace; others are kept. None replaces all.

    Raises:
        UserError: If `path` is a file or a link.
    """
    check_replaceable_directory(path)
    suffix = unique_suffix()
    temporary, previous = (path.with_name(f".{path.name}.{suffix}.{kind}") for kind in ("tmp", "previous"))
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(previous)
        try:
            temporary.rename(path)
        except OSError:
            if previous.exists():
                previous.rename(path)
            raise
        if names is not None and previous.exists():
            for file in [file for file in previous.iterdir() if file.name not in names]:
                file.rename(path / file.name)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def archive(paths: Sequence[Path], folder: Path, has_results: bool) -> None:
    """Move files and folders, in this order, into an archive folder, whose content they replace.

    Without results, an existing archive is kept and the files are removed. If one of them cannot be moved, all stay
    where they are.
    """
    if folder.exists() and not has_results:
        for path in paths:
            remove(path)
        return
    remove(folder)
    folder.mkdir()
    moved: list[Path] = []
    try:
        for path in paths:
            path.rename(folder / path.name)
            moved.append(path)
    except OSError as error:
        for path in moved:
            (folder / path.name).rename(path)
        folder.rmdir()
        raise UserError(
            f"{error.filename}: cannot be moved to {folder.name}/ ({error.strerror}); close what uses it or change its "
            "permissions, or use another name=NAME"
        ) from error


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
