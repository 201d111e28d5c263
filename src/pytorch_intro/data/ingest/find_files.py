"""Finds image files below a folder, by a glob or in a list, without hidden and system files."""

import functools
import glob
import hashlib
import itertools
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.locks import LOCK_OWNER

log = logging.getLogger(__name__)

UNREADABLE_PHOTOS = {".heic", ".heif", ".hif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}
VIDEOS = {".mpg", ".mpeg"}  # which Pillow recognizes, but cannot decode
IGNORED_FILES = {"thumbs.db", "desktop.ini"}  # and hidden files
OUTPUTS = {"train.log", "sweep.json", LOCK_OWNER}  # in folders of runs and sweeps; the last while one is active


def find_files(images: str | None, lines: Iterable[str]) -> list[str]:
    """Return the paths of the image files, sorted except where listed one by one.

    Args:
        images: File, folder (all files below it, except for those with the extension of another kind), glob, or - for
            the lines.
        lines: Paths, one per line.

    Raises:
        UserError: if no file matches.
    """
    if not images:
        raise UserError("images: not set; give a file, a folder, a glob, or - for paths on stdin, as in images=photos")
    if images == "-":
        found = [line.rstrip("\r\n") for line in lines if line.strip()]
        problem = "no paths on stdin"
    elif os.path.isdir(images):  # noqa: PTH112, which never raises
        files = sorted(os.path.join(images, file) for file in walk_files(Path(images)))  # noqa: PTH118
        found = [file for file in files if may_be_image(file)]
        warn_about_other_files("images", (file for file in files if not may_be_image(file)))
        problem = "no image in this folder"
    elif os.path.exists(images):  # noqa: PTH110
        return [images]
    else:
        found = [file for file in sorted({*expand_glob(images)}) if os.path.isfile(file)]  # noqa: PTH113
        problem = "no file matches" if glob.has_magic(images) else "no such file or folder"
    if not found:
        raise UserError(f"images={images}: {problem}; give a file, a folder, a glob, or - for paths on stdin")
    return found


def expand_glob(pattern: str) -> Iterator[str]:
    """Yield the paths that match a glob, in which ** enters each folder once: a link may lead back.

    glob.glob would enter it again and again.
    """
    parts = pattern.replace(os.sep, "/").split("/")
    if "**" not in parts:
        yield from glob.iglob(pattern)  # noqa: PTH207
        return
    depth = parts.index("**")
    after = itertools.dropwhile(lambda part: part == "**", parts[depth:])
    base, rest = "/".join([*parts[:depth], ""]), "/".join(after) or "*"
    visited = set()
    for top in glob.iglob(base) if base else [""]:  # noqa: PTH207
        for parent, folders, _ in os.walk(top or ".", followlinks=True):
            if (place := os.path.realpath(parent)) in visited:
                folders.clear()
                continue
            visited.add(place)
            folders[:] = sorted(name for name in folders if name[0] != ".")
            yield from expand_glob(os.path.join(glob.escape(parent if top else parent[2:]), rest))  # noqa: PTH118


def may_be_image(path: str) -> bool:
    """Return whether a file has the extension of an image format, or none at all.

    Photographs in a format that Pillow does not read count, too: to leave them out silently would be a surprise.
    """
    return is_image_suffix(os.path.splitext(path)[1].lower())  # noqa: PTH122, of millions of files


@functools.cache
def is_image_suffix(suffix: str) -> bool:
    formats = Image.registered_extensions()
    is_readable = suffix in formats and formats[suffix] in Image.OPEN and suffix not in VIDEOS
    return not suffix or is_readable or suffix in UNREADABLE_PHOTOS


def needs_conversion(path: str) -> bool:
    """Return whether a file probably is a photograph in a format that Pillow, or an older Pillow, cannot read."""
    return os.path.splitext(path)[1].lower() in {*UNREADABLE_PHOTOS, ".avif"}  # noqa: PTH122


def warn_about_other_files(key: str, files: Iterable[str]) -> None:
    """Log how many files of other kinds are left out, by their extension."""
    if others := Counter(Path(file).suffix.lower() for file in files):
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common())
        log.warning(f"{key}: skipped {others.total():,} file(s) that are not images: {kinds}")


def list_names(folder: str) -> list[str]:
    """Return the names in a folder, sorted, without hidden and system files; UserError if it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not is_ignored(name))  # noqa: PTH208
    except OSError as error:
        raise UserError(f"data.root={folder}: {error.strerror}; use a readable folder: data.root=DIR") from error


def walk_files(folder: Path, skip_runs: bool = False) -> Iterator[str]:
    """Yield the paths below a folder, with / as separator, without hidden and system files; without runs on request.

    A link to a folder above is skipped: of a class folder, it would lead to the images of all other classes.
    """
    visited, top = set(), os.path.realpath(folder)
    for parent, folders, files in os.walk(folder, onerror=raise_unreadable_dir, followlinks=True):
        if (place := os.path.realpath(parent)) in visited:  # a link leads back
            folders.clear()
            continue
        visited.add(place)
        if top.startswith(os.path.join(place, "")) and place != top:  # noqa: PTH118
            log.warning("skipped %s: a link to %s, a folder above it", parent, place)
            folders.clear()
            continue
        if skip_runs and Path(parent) != folder and is_run({*folders, *files}):
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "."]
        prefix = "" if Path(parent) == folder else f"{Path(parent).relative_to(folder).as_posix()}/"
        for name in files:  # as text: a Path of each of millions of files takes longer than everything else
            if not is_ignored(name) and is_regular(os.path.join(parent, name)):  # noqa: PTH118
                yield prefix + name


def holds_only_runs(folder: Path) -> bool:
    """Return whether this is a folder of a run or a sweep, or holds nothing but such folders."""
    _, folders, files = next(os.walk(folder, onerror=raise_unreadable_dir))
    if is_run({*folders, *files}):
        return True
    if any(not is_ignored(name) and is_regular(folder / name) for name in files):  # as in most folders
        return False
    is_empty = next(walk_files(folder, skip_runs=True), None) is None
    return is_empty and any(is_run({*folders, *files}) for _, folders, files in os.walk(folder))


def is_run(names: set[str]) -> bool:
    """Return whether a folder with these files and folders is that of a run or a sweep of this project."""
    return bool(OUTPUTS & names) or ("config.yaml" in names and bool({"checkpoints", "result.json"} & names))


def is_ignored(name: str) -> bool:
    return name[0] == "." or name.lower() in IGNORED_FILES


def is_regular(path: str | Path) -> bool:
    """Return whether this is a file, not a pipe or a device; what cannot be accessed is reported when it is read."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return True


def is_searched(folder: Path, root: Path) -> bool:
    """Return whether walk_files(root) would yield the files of this folder."""
    folder, root = folder.resolve(), root.resolve()
    return folder == root or (root in folder.parents and not any(p[0] == "." for p in folder.relative_to(root).parts))


def raise_unreadable_dir(error: OSError) -> None:
    """Raise for a folder that cannot be read, which os.walk would treat as empty."""
    raise UserError(f"{error.filename}: {error.strerror}; make it readable, or move it away") from error


def hash_files(root: Path, paths: Iterable[str]) -> str:
    """Return a digest of a folder's path, and of the path, size and times of each file.

    The time of the last change (ctime) shows new content of the same size even if the modification time was restored,
    as by cp -p or an archive. It also changes with the name and the permissions: then images are decoded once more.
    """
    digest = hashlib.sha256(os.fsencode(root))
    for path in paths:
        try:
            status = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118, twice as fast, for millions of files
            digest.update(os.fsencode(f"\0{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"))
        except OSError:  # a dangling link, reported when it is decoded
            digest.update(os.fsencode(f"\0{path}\0"))
    return digest.hexdigest()
