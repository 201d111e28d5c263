"""Renames and merges the classes of a dataset."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence

import torch

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.dataset import BatchedDataset

log = logging.getLogger(__name__)


def relabel(images: BatchedDataset, mapping: Mapping[str, str | int]) -> None:
    """Rename the classes of a dataset in place; classes with the same new name are merged.

    New classes are numbered in the order of the first old class that maps to them.

    Args:
        images: Dataset to relabel.
        mapping: New name for each class name.

    Raises:
        UserError: if a class is missing from the mapping, or the mapping names an unknown class.
    """
    new_names = {str(old): str(new) for old, new in mapping.items()}
    for name in [*(name for name in images.classes if name not in new_names), *(new_names.keys() - images.classes)]:
        problem = "is not in the mapping" if name in images.classes else "is not a class of the dataset"
        raise UserError(f"data.target_transform: {name!r} {problem}; map each of {', '.join(images.classes)}")
    classes = list(dict.fromkeys(new_names[name] for name in images.classes))
    numbers = {name: number for number, name in enumerate(classes)}
    images.targets = torch.tensor([numbers[new_names[name]] for name in images.classes])[images.targets]
    images.classes = classes


def warn_about_similar(classes: Sequence[str], remedy: str) -> None:
    """Log class names that look the same: they differ in case, in blanks, or in how accents are encoded."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain, []).append(name)
    for names in groups.values():
        if len(names) > 1:
            log.warning("data: the classes %s differ in case or blanks only; %s", ", ".join(map(repr, names)), remedy)
