"""Training, validation and test splits: the dataset's own, and seeded stratified ones where it has none."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from pytorch_intro.common.distributed import is_rank_zero
from pytorch_intro.common.errors import UserError
from pytorch_intro.data.dataset import ImageSubset

log = logging.getLogger(__name__)


@dataclass
class SplitSpec:
    """How to create the splits that a dataset lacks; raises a UserError if fold is not one of the folds."""

    val_fraction: float  # of the training images; 0 for none
    test_fraction: float  # of all images; 0 for none
    num_folds: int | None  # cross-validation instead of val_fraction
    fold: int  # index of the validation fold, from 0
    seed: int

    def __post_init__(self) -> None:
        if self.fold and not self.num_folds:
            raise UserError(f"data.fold={self.fold}: data.num_folds is not set; set it, as in data.num_folds=5")
        if self.num_folds and self.fold >= self.num_folds:
            raise UserError(
                f"data.fold={self.fold}: the {self.num_folds} folds are numbered from 0; use 0 to {self.num_folds - 1}"
            )

    def apply(
        self, whole: ImageSubset | None, val: ImageSubset | None, has_test: bool
    ) -> tuple[ImageSubset, ImageSubset | None, ImageSubset | None]:
        """Split off what a dataset with these training and validation images lacks; return train, val and test.

        With has_test, the dataset has test images of its own, and test is None.
        """
        if whole is None:
            raise UserError("data: the dataset has no training images; add some")
        if len(classes := whole.dataset.classes) < 2:
            raise UserError(f"data: the dataset has only one class, {classes[0]}; add images of another")
        train, test = (whole, None) if has_test else self.split_off(whole, self.test_fraction, "test_fraction")
        if val is not None:
            check_classes(classes, val, "validation")
            if self.num_folds:
                raise UserError(
                    f"data.num_folds={self.num_folds}: the dataset has a validation split of its own; use "
                    "data.num_folds=null"
                )
        elif self.num_folds:
            if self.num_folds > len(train):
                raise UserError(f"data.num_folds={self.num_folds}: only {len(train)} images; use fewer folds")
            in_fold = stratified_fold(train.targets, self.num_folds, self.fold, self.seed)
            train, val = train.take(~in_fold), train.take(in_fold)
        else:
            train, val = self.split_off(train, self.val_fraction, "val_fraction")
        check_all_classes_trained(whole, train)
        return train, val, test

    def split_off(self, subset: ImageSubset, fraction: float, key: str) -> tuple[ImageSubset, ImageSubset | None]:
        if fraction == 0:
            return subset, None
        chosen = stratified_split(subset.targets, fraction, self.seed)
        if chosen.all() or not chosen.any():
            raise UserError(
                f"data.{key}={fraction}: {len(subset)} images leave one part empty; change the fraction, or add images"
            )
        return subset.take(~chosen), subset.take(chosen)


def check_all_classes_trained(whole: ImageSubset, train: ImageSubset) -> None:
    """Raise a UserError if a class has images, but none of them is left in the training split."""
    labels = whole.dataset.targets
    present = torch.bincount(labels[labels >= 0])
    trained = torch.bincount(train.targets, minlength=len(present))
    for number in ((present > 0) & (trained == 0)).nonzero().flatten().tolist():
        raise UserError(
            f"data: class {whole.dataset.classes[number]} has {present[number]} image(s), but none is left for "
            "training; add images, or remove the class"
        )


def warn_about_empty_classes(train: ImageSubset) -> None:
    """Warn of classes without a training image, such as those between labels 0, 5 and 10."""
    classes = train.dataset.classes
    counts = train.targets.bincount(minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]:
        shown = ", ".join(empty[:10]) + ", …" * (len(empty) > 10)
        level = logging.WARNING if is_rank_zero() else logging.INFO
        log.log(level, f"data: {len(empty):,} of {len(classes):,} classes have no training image: {shown}")


def check_classes(classes: list[str], subset: ImageSubset, name: str) -> None:
    """Raise a UserError unless the labels of a split mean the trained classes."""
    own = subset.dataset.classes
    if own != classes[: len(own)]:  # classes that are numbers may lack the last ones
        raise UserError(
            f"data: the {name} images have the classes {', '.join(own)}, the training images {', '.join(classes)}; use "
            "the same classes in both"
        )


def stratified_split(targets: Tensor, fraction: float, seed: int) -> Tensor:
    """Choose round(N * fraction) rows, stratified: within one row of each class's share.

    Targets (N,) int64 to a mask (N,) bool.

    A class keeps at least one row: instead of its last one, a row of another class is chosen that has more.
    """
    total = len(targets)
    count = round(total * fraction)
    # Without a random offset, the last row would always be chosen.
    offset = torch.randint(total, (), generator=torch.Generator().manual_seed(seed))
    rank = rank_by_class(targets, seed)
    chosen = (rank * count + offset) % total >= total - count
    kept = torch.bincount(targets[~chosen], minlength=int(targets.max()) + 1)
    if kept[targets].all():
        return chosen
    by_class = rank.argsort()
    is_first = torch.ones(total, dtype=torch.bool)
    is_first[by_class[1:]] = targets[by_class].diff() != 0
    returned = is_first & (kept[targets] == 0)
    chosen &= ~returned
    free = by_class[~chosen[by_class]]
    others = free[1:][targets[free].diff() == 0]  # each class keeps the first of these
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    chosen[others[order[: int(returned.sum())]]] = True
    return chosen


def stratified_fold(targets: Tensor, num_folds: int, fold: int, seed: int) -> Tensor:
    """Choose one of num_folds disjoint folds; targets (N,) int64 to (N,) bool.

    Fold sizes differ by one at most, and so does each class's count.
    """
    return rank_by_class(targets, seed) % num_folds == fold


def rank_by_class(targets: Tensor, seed: int) -> Tensor:
    """Return each row's place, (N,) int64, in an order by class that is shuffled within each class."""
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    return shuffled[torch.argsort(targets[shuffled], stable=True)].argsort()
