"""Image files below a folder, with labels from their subfolders or from a CSV file."""

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.csv_labels import SPLITS, read_labels
from pytorch_intro.data.ingest.find_files import (
    hash_files,
    holds_only_runs,
    is_regular,
    list_names,
    may_be_image,
    walk_files,
    warn_about_other_files,
)
from pytorch_intro.data.ingest.packed import PackedTexts

log = logging.getLogger(__name__)


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Image files with labels; indexing gives (PIL image, class index).

    Sorted by path, so that the same files have the same order wherever the labels come from.

    Args:
        root: Folder that the paths are relative to.
        labels: Class name and split of each path, with / as separator; the split is train, val, test, or "" for none.
        labels_file: File of the labels, if any.

    Attributes:
        origin: Folder and labels file.
        classes: Names, sorted; numerically if all are numbers.
        splits: Split of each file.

    Raises:
        UserError: if a class has no training images.
    """

    def __init__(self, root: str, labels: dict[str, tuple[str, str]], labels_file: str | None = None) -> None:
        self.root = root
        self.origin = f"{Path(root).resolve()} {labels_file and Path(labels_file).resolve()}"
        paths = sorted(labels, key=lambda path: path.replace("/", "\0"))  # folder by folder; no name has a \0
        self.paths: Sequence[str] = PackedTexts(paths)
        self.splits = [labels[path][1] for path in paths]
        names = [labels[path][0] for path in paths]
        self.classes = sort_classes({name for name, split in labels.values() if split in ("train", "")})
        numbers = {name: number for number, name in enumerate(self.classes)}
        for path, name in zip(paths, names, strict=True):
            if name not in numbers:
                raise UserError(
                    f"data.root={root}: {path} is labeled {name!r}, a class without training images; add some, or use "
                    f"one of the trained classes: {', '.join(self.classes) or 'none'}"
                )
        self.targets = [numbers[name] for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(Path(self.root, self.paths[index])), self.targets[index]

    def hash_files(self) -> str:
        """Return a digest of the files' paths, sizes and times."""
        return hash_files(Path(self.root).resolve(), self.paths)


class ImageFolder(ImageFiles):
    """Images in one subfolder per class, at any depth; optionally below train/, val/ and test/.

    Raises:
        UserError: if it is missing, empty, or has another layout.
    """

    def __init__(self, root: str) -> None:
        folders = list_folders(root)
        splits = [name for name in folders if name.lower() in SPLITS]
        others = [name for name in folders if name not in splits]
        train = next((name for name in splits if SPLITS[name.lower()] == "train"), None)
        if others and train and (len(splits) > 1 or holds_folders_only(Path(root, train))):
            problem = f"the folder {others[0]} is next to {' and '.join(splits)}, used as splits"
            raise UserError(f"data.root={root}: {problem}; move it into one of them, or out of this folder")
        if not others and not train:
            raise UserError(f"data.root={root}: no train/ next to {' and '.join(splits)}; add the folder train/")
        labels: dict[str, tuple[str, str]] = {}
        warn_about_ignored_images(Path(root))
        class_folders: list[Path] = []
        skipped: list[str] = []  # files of other kinds
        for split in [""] if others else splits:
            if split:
                warn_about_ignored_images(Path(root, split))
            for name in list_folders(str(Path(root, split))) if split else folders:
                folder = Path(root, split, name)
                class_folders.append(folder)
                found = list(walk_files(folder, skip_runs=True))
                files = [file for file in found if may_be_image(file)]
                skipped += (file for file in found if not may_be_image(file))
                if not files:
                    raise UserError(f"{folder}: no images in this folder; remove it")
                prefix = folder.relative_to(root).as_posix()
                label = name, SPLITS.get(split.lower(), "")  # one object for all files
                labels |= dict.fromkeys((f"{prefix}/{file}" for file in files), label)
        warn_about_other_files("data", skipped)
        check_links(class_folders)
        super().__init__(root, labels)


class LabeledImages(ImageFiles):
    """Images with labels in a CSV file with the columns path, label, and optionally split.

    Args:
        root: Folder that the paths are relative to.
        labels: CSV file, in UTF-8; the split is train, val or test.

    Raises:
        UserError: if it cannot be read, a column is missing, or a line has a wrong path, label or split.
    """

    def __init__(self, root: str, labels: str | None) -> None:
        if not labels:
            raise UserError(
                "data.labels: required by data=csv; set data.labels=FILE, a CSV file with the columns path and label"
            )
        super().__init__(root, read_labels(labels, root), labels)


class UnlabeledImages(Dataset[tuple[Image.Image, int]]):
    """Image files without labels; indexing gives (PIL image, 0).

    Args:
        paths: Paths, absolute or relative to the working directory.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path = self.paths[index]
        if not is_regular(Path(path)):
            raise OSError("not a regular file")  # opening a pipe would wait for its writer
        return Image.open(path), 0


def list_folders(root: str) -> list[str]:
    """Return the names of the folders in a folder, sorted, without those of runs.

    Raises:
        UserError: if the folder cannot be read, or has none.
    """
    names = [name for name in list_names(root) if os.path.isdir(os.path.join(root, name))]  # noqa: PTH112, PTH118
    runs = [name for name in names if holds_only_runs(Path(root, name))]
    if runs:
        names = [name for name in names if name not in runs]
        log.warning("data: left out %s in %s: results of runs, no images", ", ".join(runs), root)
    if not names:
        raise UserError(
            f"data.root={root}: no subfolders; use one per class, as in {root}/cat/1.jpg, or give the labels in a "
            "file: data=csv data.labels=FILE"
        )
    return names


def check_links(class_folders: Sequence[Path]) -> None:
    """Raise a UserError if, by a link, the folder of a class is that of another class, or contains it."""
    places = sorted((os.path.join(os.path.realpath(folder), ""), folder) for folder in class_folders)  # noqa: PTH118
    for (outer, one), (inner, other) in itertools.pairwise(places):
        if inner.startswith(outer) and one.name != other.name:
            link = one if one.is_symlink() else other
            raise UserError(
                f"{link}: a link by which the classes {one.name} and {other.name} have the same images; remove one of "
                "both"
            )


def warn_about_ignored_images(folder: Path) -> None:
    """Log how many images are next to the folders that are read."""
    suffixes = Image.registered_extensions()
    names = [name for name in list_names(str(folder)) if Path(name).suffix.lower() in suffixes]
    if count := sum((folder / name).is_file() for name in names):
        log.warning(
            "data: ignored %s image(s) next to the class folders in %s; move them into one, or remove them",
            f"{count:,}",
            folder,
        )


def holds_folders_only(folder: Path) -> bool:
    """Return whether a folder contains folders, but no files; then it is not a class called train."""
    names = list_names(str(folder))
    return bool(names) and all((folder / name).is_dir() for name in names)


def sort_classes(names: Iterable[str]) -> list[str]:
    names = sorted(names)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names
