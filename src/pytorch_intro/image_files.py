"""One's own images: files below a folder, with labels by their subfolders or by a CSV file."""

import csv
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from pytorch_intro.errors import UserError

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LITTER = {"thumbs.db", "desktop.ini"}  # and whatever begins with a dot


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Image files and their labels; `files[i]` is a PIL image and the number of its class.

    Sorted by path, so that the same files give the same order wherever their labels come from.

    Args:
        root: The folder that the paths start from.
        labels: Of each path, with / between its parts, the class's name and the split: train, val, test, or "" where
            the splits are still to be drawn.
        labels_file: Where they come from, if from a file.

    Attributes:
        origin: Names the folder, and the file of labels.
        classes: The names, sorted; by number if all are numbers.
        splits: Of each file.

    Raises:
        UserError: if a class has no image to learn from.
    """

    def __init__(self, root: str, labels: dict[str, tuple[str, str]], labels_file: str | None = None) -> None:
        self.root = root
        self.origin = f"{Path(root).resolve()} {labels_file and Path(labels_file).resolve()}"
        self.paths = sorted(labels, key=lambda path: path.split("/"))
        self.splits = [labels[path][1] for path in self.paths]
        names = [labels[path][0] for path in self.paths]
        known = {name for name, split in zip(names, self.splits, strict=True) if split in ("train", "")}
        for path, name in zip(self.paths, names, strict=True):
            if name not in known:
                raise UserError(
                    f"{root}: {path} is labelled {name!r}, a class without training images; there is "
                    f"{', '.join(sorted_classes(known)) or 'none'}"
                )
        self.classes = sorted_classes(known)
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.targets = [numbers[name] for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(Path(self.root, self.paths[index])), self.targets[index]

    def fingerprint(self) -> str:
        """A digest of the files' paths, sizes and times, which changes when one of them does."""
        return fingerprint(Path(self.root).resolve(), self.paths)


class ImageFolder(ImageFiles):
    """Images in one subfolder a class, deeper ones included; the classes may lie below train/, val/ and test/.

    Args:
        root: The folder.

    Raises:
        UserError: if it is missing or empty, or not laid out like this.
    """

    def __init__(self, root: str) -> None:
        folders = subfolders(Path(root))
        splits = {SPLITS[name.lower()] for name in folders if name.lower() in SPLITS}
        others = [name for name in folders if name.lower() not in SPLITS]
        trains = [name for name in folders if SPLITS.get(name.lower()) == "train"]
        if others and trains and (len(splits) > 1 or holds_folders_only(Path(root, trains[0]))):
            raise UserError(f"data.root={root}: {others[0]} lies beside {' and '.join(sorted(splits))}; move it away")
        if not others and "train" not in splits:
            raise UserError(f"data.root={root}: there is no train/ beside {' and '.join(sorted(splits))}")
        has_splits = not others
        labels: dict[str, tuple[str, str]] = {}
        for split in folders if has_splits else [""]:
            for name in subfolders(Path(root, split)):
                files = list(files_below(Path(root, split, name)))
                if not files:
                    raise UserError(f"{Path(root, split, name)}: there is no image in this folder; remove it")
                prefix = f"{split}/{name}" if split else name
                labels |= {f"{prefix}/{file}": (name, SPLITS.get(split.lower(), "")) for file in files}
        super().__init__(root, labels)


class LabelledImages(ImageFiles):
    """Images with their labels in a CSV file, with the columns path and label, and optionally split.

    Args:
        root: The folder that the paths start from.
        labels: The CSV file, in UTF-8; split is train, val or test.

    Raises:
        UserError: if it cannot be read, a column is missing, or a line has a wrong path, label or split.
    """

    def __init__(self, root: str, labels: str | None) -> None:
        if labels is None:
            raise UserError("data.labels: give the CSV file of the labels, with the columns path and label")
        found: dict[str, tuple[str, str]] = {}
        for line, row in rows_of(labels):
            where = f"data.labels={labels}, line {line}"
            path = checked_path(row["path"], root, where)
            if path in found:
                raise UserError(f"{where}: {path} is there twice; leave one line out")
            found[path] = checked_label(row, where)
        if not found:
            raise UserError(f"data.labels={labels}: there is no line with an image")
        if len({bool(split) for _, split in found.values()}) > 1:
            raise UserError(f"data.labels={labels}: some lines have a split and some have none; give all or none")
        super().__init__(root, found, labels)


class UnlabelledImages(Dataset[tuple[Image.Image, int]]):
    """Image files of which nothing is known; `files[i]` is a PIL image and 0.

    Args:
        paths: From the working directory, or absolute.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(self.paths[index]), 0


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


def sorted_classes(names: Iterable[str]) -> list[str]:
    names = list(names)
    return sorted(sorted(names), key=int) if all(name.isdecimal() for name in names) else sorted(names)


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


def rows_of(file: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a CSV file, with their numbers.

    Raises:
        UserError: if it cannot be read, or path or label is missing.
    """
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or ()]
            for column in ("path", "label"):
                if column not in columns:
                    raise UserError(
                        f"data.labels={file}: the column {column} is missing; the first line has to name the columns, "
                        f"with commas between them, and is {', '.join(columns)!r}"
                    )
            for row in reader:
                if None in row:
                    raise UserError(
                        f"data.labels={file}, line {reader.line_num}: more columns than in the first line; put what "
                        'has a comma in it between "'
                    )
                yield reader.line_num, {name: (row.get(name) or "").strip() for name in ("path", "label", "split")}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels={file}: it cannot be read as CSV ({error})") from error


def checked_path(path: str, root: str, where: str) -> str:
    """The path with / between its parts, and without . and .. in it.

    Raises:
        UserError: if it leads out of the root, or to no file.
    """
    folder = os.path.abspath(root)  # noqa: PTH100, which leaves links alone
    plain = os.path.abspath(Path(root, path))  # noqa: PTH100
    if not path or not Path(plain).is_relative_to(folder):
        raise UserError(f"{where}: the path {path!r} is not below data.root={root}")
    if not Path(plain).is_file():
        hint = "; write / between folders" if "\\" in path else ""
        raise UserError(f"{where}: there is no file {plain}{hint}")
    return Path(plain).relative_to(folder).as_posix()


def checked_label(row: dict[str, str], where: str) -> tuple[str, str]:
    if not row["label"]:
        raise UserError(f"{where}: the label of {row['path']} is empty")
    if row["split"] and row["split"].lower() not in SPLITS:
        raise UserError(f"{where}: the split {row['split']!r} is unknown; there is train, val and test")
    return row["label"], SPLITS.get(row["split"].lower(), "")


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
