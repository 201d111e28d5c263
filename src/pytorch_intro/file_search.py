"""Image files on the disk: below a folder, by a glob, by a list; hidden ones and the systems' litter left out."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytorch_intro.errors import UserError

LITTER = {"thumbs.db", "desktop.ini"}  # and whatever begins with a dot


def found_files(images: str | None, lines: Iterable[str]) -> list[str]:
    """The paths of the image files that are meant, sorted but for those that are given one by one.

    Args:
        images: A file; a folder, for all files below it but hidden ones; a glob; or - for the lines.
        lines: A path each.

    Raises:
        UserError: if there is none.
    """
    if not images:
        raise UserError("images: give a file, a folder, a glob, or - for paths on stdin, as in images=photos")
    if images == "-":
        found = [line.rstrip("\r\n") for line in lines if line.strip()]
        what = "stdin has no path"
    elif os.path.isdir(path := os.path.expanduser(images)):  # noqa: PTH111, PTH112, which never raise
        found = sorted(os.path.join(path, file) for file in files_below(Path(path)))  # noqa: PTH118
        what = "there is no file in this folder"
    elif os.path.exists(path):  # noqa: PTH110
        return [path]
    else:
        found = [file for file in sorted(glob.glob(path, recursive=True)) if os.path.isfile(file)]  # noqa: PTH113, PTH207
        what = "no file matches" if glob.has_magic(images) else "there is no such file or folder"
    if not found:
        raise UserError(f"images={images}: {what}; give a file, a folder, a glob, or - for paths on stdin")
    return found


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted.

    Raises:
        UserError: if it is not there, or has none.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise UserError(f"data.root={folder}: {error.strerror}; give the folder of your images") from error
    if not names:
        raise UserError(
            f"data.root={folder}: there are no subfolders; one a class is expected, as in {folder}/cat/1.jpg, or give "
            "the labels in a file: data=csv data.labels=FILE"
        )
    return names


def holds_folders_only(folder: Path) -> bool:
    """Whether there are folders, but no files, in a folder."""
    names = [entry for entry in os.scandir(folder) if entry.name[0] != "." and entry.name.lower() not in LITTER]
    return bool(names) and all(entry.is_dir() for entry in names)


def files_below(folder: Path) -> Iterator[str]:
    """The paths below a folder, with / between their parts; hidden files and the systems' litter left out."""
    seen = set()
    for parent, folders, files in os.walk(folder, onerror=refuse_folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:  # a link leads back
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if name[0] != "."]
        for name in files:
            path = Path(parent, name)
            is_file = path.is_file() or path.is_symlink()  # a link to nothing is told when it is read
            if name[0] != "." and name.lower() not in LITTER and is_file:
                yield path.relative_to(folder).as_posix()


def is_searched(folder: Path, root: Path) -> bool:
    """Whether files in this folder count as below the root, as files_below has it."""
    folder, root = folder.resolve(), root.resolve()
    return folder == root or (root in folder.parents and not any(p[0] == "." for p in folder.relative_to(root).parts))


def refuse_folder(error: OSError) -> None:
    """A folder that cannot be read must not pass for an empty one."""
    raise UserError(f"{error.filename}: {error.strerror}; mend that, or move the folder away") from error


def fingerprint(root: Path, paths: Iterable[str]) -> str:
    """A digest of a folder's place and of the paths, sizes and times of files in it."""
    digest = hashlib.sha256(os.fsencode(root))
    for path in paths:
        try:
            status = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118, twice as fast, for millions of files
            digest.update(os.fsencode(f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}"))
        except OSError:  # a link to nothing; to be told when it is decoded
            digest.update(os.fsencode(f"\0{path}\0"))
    return digest.hexdigest()
