"""Image files below a folder, with labels from their subfolders or from a CSV file."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.ingest.csv_labels import SPLITS, read_labels
from pytorch_intro.data.ingest.find_files import files_below, fingerprint, holds_folders_only, subfolders


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Image files with labels; indexing gives (PIL image, class index).

    Sorted by path, so that the same files have the same order wherever the labels come from.

    Args:
        root: Folder that the paths are relative to.
        labels: Class name and split of each path, with / as separator; the split is train, val, test, or "" if it is
            yet to be made.
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
        self.paths = sorted(labels, key=lambda path: path.split("/"))
        self.splits = [labels[path][1] for path in self.paths]
        names = [labels[path][0] for path in self.paths]
        known = {name for name, split in zip(names, self.splits, strict=True) if split in ("train", "")}
        for path, name in zip(self.paths, names, strict=True):
            if name not in known:
                raise UserError(
                    f"{root}: {path} is labeled {name!r}, a class without training images; add some, or remove it "
                    f"(classes: {', '.join(sorted_classes(known)) or 'none'})"
                )
        self.classes = sorted_classes(known)
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.targets = [numbers[name] for name in names]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.open(Path(self.root, self.paths[index])), self.targets[index]

    def fingerprint(self) -> str:
        """Return a digest of the files' paths, sizes and modification times."""
        return fingerprint(Path(self.root).resolve(), self.paths)


class ImageFolder(ImageFiles):
    """Images in one subfolder per class, at any depth; optionally below train/, val/ and test/.

    Args:
        root: Folder.

    Raises:
        UserError: if it is missing, empty, or has another layout.
    """

    def __init__(self, root: str) -> None:
        folders = subfolders(Path(root))
        splits = {SPLITS[name.lower()] for name in folders if name.lower() in SPLITS}
        others = [name for name in folders if name.lower() not in SPLITS]
        trains = [name for name in folders if SPLITS.get(name.lower()) == "train"]
        if others and trains and (len(splits) > 1 or holds_folders_only(Path(root, trains[0]))):
            raise UserError(f"data.root={root}: {others[0]} lies next to {' and '.join(sorted(splits))}; move it away")
        if not others and "train" not in splits:
            raise UserError(f"data.root={root}: {' and '.join(sorted(splits))} without train; add the folder train/")
        has_splits = not others
        labels: dict[str, tuple[str, str]] = {}
        for split in folders if has_splits else [""]:
            for name in subfolders(Path(root, split)):
                files = list(files_below(Path(root, split, name)))
                if not files:
                    raise UserError(f"{Path(root, split, name)}: no images in this folder; remove it")
                prefix = f"{split}/{name}" if split else name
                labels |= {f"{prefix}/{file}": (name, SPLITS.get(split.lower(), "")) for file in files}
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
        if labels is None:
            raise UserError("data.labels is required by data=csv: data.labels=FILE, with the columns path and label")
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
        return Image.open(self.paths[index]), 0


def sorted_classes(names: Iterable[str]) -> list[str]:
    names = list(names)
    return sorted(sorted(names), key=int) if all(name.isdecimal() for name in names) else sorted(names)
