"""Image datasets of the Hugging Face hub, or of local files in its formats: data=huggingface data.path=NAME."""

import logging
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pytorch_intro.common.errors import UserError, check_installed, first_lines
from pytorch_intro.data.ingest.image_folder import ImageFiles, sort_classes

log = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "dev": "val", "test": "test"}
LABEL_NAMES = ("label", "labels", "class")  # of label columns that are not declared as class labels


class HubDataset(ImageFiles):
    """All splits of a dataset; indexing gives (PIL image, class index).

    The files are not decoded by `datasets`: they go through the same decoder and cache as image folders.

    Args:
        path: Name on the hub, such as user/name, or a local folder of Parquet files or of images.
        root: Folder of the cache of decoded images.
        name: Configuration, if the dataset has several.
        revision: Branch, tag or commit on the hub; None: the newest.
        image_column: Column of the images; None: the only one of this type.
        label_column: Column of the labels: class labels, whole numbers or texts; None: the only one of class labels, or
            label, labels or class.

    Raises:
        UserError: if it cannot be loaded, or a column or the training split is missing.
    """

    def __init__(
        self,
        path: str | None,
        root: str,
        name: str | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        check_installed("data=huggingface", ["datasets"], "hub")
        if not path:
            raise UserError("data.path: required by data=huggingface; set data.path=NAME of the hub, or a folder")
        import datasets

        parts = load_splits(path, name, revision)
        features = next(iter(parts.values())).features
        image = find_column(image_column, "image", [key for key in features if is_image(features[key])], features)
        label = find_column(label_column, "label", label_candidates(features), features)
        parts, labels = drop_unlabeled(parts, label, path)
        self.root, self.origin = root, f"{path} {name} {image} {label}"
        self.fingerprint = " ".join(part._fingerprint for part in parts.values())  # changes with content and columns
        self.parts = [part.cast_column(image, datasets.Image(decode=False))[image] for part in parts.values()]
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.splits = [split for split, part in parts.items() for _ in range(len(part))]
        self.paths = [f"{path}/{split}/{row}" for split, part in parts.items() for row in range(len(part))]
        self.targets, self.classes = to_targets(labels, features[label])

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        item = self.parts[part][index - int(self.starts[part])]
        source = BytesIO(item["bytes"]) if item["bytes"] is not None else item["path"]
        return Image.open(source), self.targets[index]

    def hash_files(self) -> str:
        """Return what identifies the content."""
        return self.fingerprint


def load_splits(path: str, name: str | None, revision: str | None) -> dict[str, Any]:
    """Return the datasets of train, val and test, those that exist, without those that have no labels."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    is_local = Path(path).is_dir()
    try:
        loaded = datasets.load_dataset(path, name, revision=None if is_local else revision)
    except Exception as error:  # many kinds: of the file formats, the hub and the network
        remedy = "check its files" if is_local else "check the name and the connection, or use a local folder"
        raise UserError(f"data.path={path}: cannot be loaded ({first_lines(error)[:200]}); {remedy}") from error
    known = {SPLITS[split]: part for split, part in loaded.items() if split in SPLITS}
    if len(loaded) == 1:
        known = {"train": next(iter(loaded.values()))}
    if "train" not in known:
        raise UserError(f"data.path={path}: no split named train among {', '.join(loaded)}; use another dataset")
    if ignored := [split for split in loaded if split not in SPLITS and len(loaded) > 1]:
        log.info(f"data: {path}: splits that are not used: {', '.join(ignored)}")
    return known


def drop_unlabeled(parts: dict[str, Any], column: str, path: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the splits without those that have no labels, as of competitions, and all labels."""
    labels: list[Any] = []
    kept = {}
    for split, part in parts.items():
        values = part[column][:]
        missing = [row for row, value in enumerate(values) if value is None or value == -1]
        if missing and (split == "train" or len(missing) < len(values)):
            raise UserError(f"data.path={path}: image {missing[0]} of {split} has no label; use a dataset with labels")
        if missing:
            log.info(f"data: {path}: {split} has no labels and is not used")
        else:
            kept[split] = part
            labels += values
    return kept, labels


def is_image(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Image)


def label_candidates(features: Any) -> list[str]:
    """Return the columns of class labels; if there are none, those with the name of a label."""
    import datasets

    declared = [name for name in features if isinstance(features[name], datasets.ClassLabel)]
    return declared or [name for name in features if name in LABEL_NAMES]


def find_column(chosen: str | None, kind: str, found: list[str], features: Any) -> str:
    """Return the column of this kind: the chosen one, or the only one that was found."""
    columns = ", ".join(features)
    if chosen is not None:
        if chosen not in features or (kind == "image" and not is_image(features[chosen])):
            raise UserError(f"data.dataset.{kind}_column={chosen}: not a column of {kind}s; choose from {columns}")
        return chosen
    if len(found) != 1:
        problem = f"several columns may hold it: {', '.join(found)}" if found else f"no column found among {columns}"
        raise UserError(f"data.dataset.{kind}_column: {problem}; name one")
    return found[0]


def to_targets(labels: Sequence[Any], feature: Any) -> tuple[list[int], list[str]]:
    """Return the class index of each image, and the names of the classes."""
    if names := getattr(feature, "names", None):
        return [int(label) for label in labels], list(names)
    if not all(isinstance(label, (str, int)) for label in labels):
        raise UserError("data.dataset.label_column: neither class labels, whole numbers nor texts; name another column")
    names = sort_classes({str(label) for label in labels})
    numbers = {name: number for number, name in enumerate(names)}
    return [numbers[str(label)] for label in labels], names
