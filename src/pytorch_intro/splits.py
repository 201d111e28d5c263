"""Training, validation and test images: as the data set divides itself, the rest by seeded draws from all classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pytorch_intro.dataset import Part
from pytorch_intro.errors import UserError
from pytorch_intro.source import Source


@dataclass
class Splitting:
    """How to divide what a data set does not divide itself.

    Args:
        val_fraction: Share of the training images that is kept for validation; 0 for none.
        test_fraction: Share of all images that is kept for the test; 0 for none.
        num_folds, fold: Instead of val_fraction, validate on this one (from 0) of so many parts.
        seed: Of the draws.
    """

    val_fraction: float
    test_fraction: float
    num_folds: int | None
    fold: int
    seed: int

    def divide(self, source: Source) -> tuple[Part, Part | None, Part | None]:
        """Parts for training, validation and test; the test is None if the data set has its own, which is not read.

        Raises:
            UserError: if one of them would be empty, or there is nothing left to draw.
        """
        train, val, test = source.part("train"), source.part("val"), None
        if train is None:
            raise UserError(f"data: {source.name} has no training images")
        if len(classes := train.dataset.classes) < 2:
            raise UserError(f"data: {source.name} has one class only, {classes[0]}; at least two are needed")
        whole = train
        if not source.has("test"):
            train, test = self.drawn(train, self.test_fraction, "test_fraction")
        if val is None:
            if self.num_folds:
                train, val = self.fold_of(train, self.num_folds)
            else:
                train, val = self.drawn(train, self.val_fraction, "val_fraction")
            check_trained(whole, train)
            return train, val, test
        check_trained(whole, train)
        check_classes(train.dataset.classes, val, "validation")
        if self.num_folds:
            raise UserError(
                f"data.num_folds={self.num_folds}: {source.name} has validation images of its own; leave the folds out"
            )
        return train, val, test

    def drawn(self, part: Part, fraction: float, key: str) -> tuple[Part, Part | None]:
        if fraction == 0:
            return part, None
        left, drawn = draw(part.targets, fraction, self.seed)
        if not len(drawn) or not len(left):
            raise UserError(f"data.{key}={fraction} of {len(part)} images leaves a split empty; change it")
        return part.take(left), part.take(drawn)

    def fold_of(self, part: Part, num_folds: int) -> tuple[Part, Part]:
        if num_folds > len(part):
            raise UserError(f"data.num_folds={num_folds}: there are only {len(part)} images to divide; take fewer")
        left, drawn = draw_fold(part.targets, num_folds, self.fold, self.seed)
        return part.take(left), part.take(drawn)


def check_trained(whole: Part, train: Part) -> None:
    """Raise a UserError if all images of a class are broken, or were drawn for validation or test."""
    labels = whole.dataset.targets
    present = torch.bincount(labels[labels >= 0])
    trained = torch.bincount(train.targets, minlength=len(present))
    for number in ((present > 0) & (trained == 0)).nonzero().flatten().tolist():
        raise UserError(
            f"data: no image of {whole.dataset.classes[number]} is left to train on, of {present[number]} in all; "
            "add some, leave the class out, or change data.split_seed"
        )


def check_classes(classes: list[str], part: Part, name: str) -> None:
    """Raise a UserError unless a part's labels mean the classes that are trained."""
    if part.dataset.classes != classes[: len(part.dataset.classes)]:  # where they are numbers, the last may be missing
        raise UserError(
            f"data: the {name} images are of {', '.join(part.dataset.classes)}, and the training images of "
            f"{', '.join(classes)}; both have to be the same"
        )


def draw(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """What is left and what is drawn: round(N * fraction) rows, evenly from all classes.

    Both are sorted; each class's number in them is right to less than one image.

    Args:
        targets: (N,) int64.
    """
    total = len(targets)
    offset = torch.randint(total, (), generator=torch.Generator().manual_seed(seed))  # or the last row always went
    place = (torch.arange(total + 1) * round(total * fraction) + offset) // total
    return parted(by_class(targets, seed), place[1:] > place[:-1])


def draw_fold(targets: Tensor, num_folds: int, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """What is left and what is drawn for one of num_folds parts that share no row and leave none out.

    The parts' sizes differ by one at most, and so does each class's number in them.
    """
    return parted(by_class(targets, seed), torch.arange(len(targets)) % num_folds == number)


def by_class(targets: Tensor, seed: int) -> Tensor:
    """The numbers 0 to N - 1 in the order of their classes, and in a random order within each."""
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    return shuffled[torch.argsort(targets[shuffled], stable=True)]


def parted(order: Tensor, is_drawn: Tensor) -> tuple[Tensor, Tensor]:
    return order[~is_drawn].sort().values, order[is_drawn].sort().values
