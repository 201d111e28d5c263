"""Metrics as means over the classes that have images, in bounded memory.

torchmetrics counts a class without images as 0: always in MulticlassAUROC, and in macro recall and F1 if the class was
predicted. Its curves store every score, or with `thresholds` compare every score with every threshold: gigabytes for a
batch of 256 images and 1,000 classes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassStatScores

NUM_BINS = 2048  # of each class, evenly spaced in the log-odds of the probability
MIN_LOG_ODDS, MAX_LOG_ODDS = -40.0, 16.0  # a softmax in float32 has no probability between 1 - 6e-8 and 1


class ClassMean(MulticlassStatScores):
    """Base class: mean of a score over the classes that have images."""

    higher_is_better = True
    tp: Tensor
    fp: Tensor
    fn: Tensor

    def __init__(self, num_classes: PositiveInt, **kwargs: Any) -> None:
        super().__init__(num_classes, average="macro", **kwargs)

    def scores(self) -> Tensor:
        """Return the score of each class, (num_classes,) float; of a class without images, any value."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        return self.scores()[self.tp + self.fn > 0].mean()


class BalancedAccuracy(ClassMean):
    """Mean over the classes of the share of their images that is classified correctly."""

    def scores(self) -> Tensor:
        return self.tp / (self.tp + self.fn)


class MacroF1(ClassMean):
    """Mean over the classes of the harmonic mean of their precision and recall."""

    def scores(self) -> Tensor:
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)


class ClassScores(Metric):
    """Probabilities of each class for all images and ranks, for a curve of each class against the rest.

    Args:
        exact: Whether to store every probability. Otherwise they are counted in NUM_BINS bins, and those in the same
            bin count as equal.
    """

    full_state_update = False
    higher_is_better = True
    probabilities: list[Tensor]
    targets: list[Tensor]
    histogram: Tensor

    def __init__(self, num_classes: PositiveInt, exact: bool | None = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.exact = exact
        if exact:
            self.add_state("probabilities", [], dist_reduce_fx="cat")
            self.add_state("targets", [], dist_reduce_fx="cat")
        else:
            empty = torch.zeros(num_classes * 2 * NUM_BINS, dtype=torch.int64)
            self.add_state("histogram", empty, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Add a batch: probabilities (N, num_classes) float, targets (N,) int64."""
        if self.exact:
            self.probabilities.append(probabilities)
            self.targets.append(targets)
            return
        scale = NUM_BINS / (MAX_LOG_ODDS - MIN_LOG_ODDS)
        bins = ((probabilities.logit().nan_to_num(MIN_LOG_ODDS) - MIN_LOG_ODDS) * scale).clamp(0, NUM_BINS - 1).long()
        classes = torch.arange(self.num_classes, device=targets.device)
        rows = 2 * classes + (classes == targets[:, None]).long()
        cells = (rows * NUM_BINS + bins).flatten()
        self.histogram.index_add_(0, cells, torch.ones_like(cells))

    def positives(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each class with images of it and of others, its false and true positives at falling thresholds.

        Both are (T,) float32, and one step for each different probability.
        """
        if not self.exact:
            counts = self.histogram.view(self.num_classes, 2, NUM_BINS).flip(-1).cumsum(-1).float()
            yield from ((false, true) for false, true in counts.unbind() if false[-1] and true[-1])
            return
        # A list, or after a synchronization of the ranks a tensor.
        probabilities, targets = (
            torch.cat(state) if isinstance(state, list) else state for state in (self.probabilities, self.targets)
        )
        for number, scores in enumerate(probabilities.unbind(dim=1)):
            scores, order = scores.sort(descending=True)
            is_class = targets[order] == number
            is_last = torch.ones_like(is_class)  # of images with the same score
            is_last[:-1] = scores.diff() != 0
            true = is_class.cumsum(0)[is_last].float()
            false = (~is_class).cumsum(0)[is_last].float()
            if len(true) and false[-1] and true[-1]:
                yield false, true

    def mean(self, areas: list[Tensor]) -> Tensor:
        """Return the mean over classes; NaN if all images have one class."""
        return torch.stack(areas).mean() if areas else torch.tensor(torch.nan, device=self.device)


class AUROC(ClassScores):
    """Area under the ROC curve of each class against the rest, averaged over the classes."""

    def compute(self) -> Tensor:
        return self.mean([area_under_roc(false, true) for false, true in self.positives()])


class AveragePrecision(ClassScores):
    """Average precision of each class against the rest, averaged over the classes."""

    def compute(self) -> Tensor:
        return self.mean([average_precision(false, true) for false, true in self.positives()])


def area_under_roc(false: Tensor, true: Tensor) -> Tensor:
    """Return the area by trapezoids: the probability that a positive has a higher score than a negative."""
    steps = torch.diff(false, prepend=false.new_zeros(1)) / false[-1]
    before = torch.cat([true.new_zeros(1), true[:-1]])
    return (steps * (before + true) / (2 * true[-1])).sum()


def average_precision(false: Tensor, true: Tensor) -> Tensor:
    """Return the sum of the precisions, each weighted by the increase of recall: no interpolation."""
    steps = torch.diff(true, prepend=true.new_zeros(1)) / true[-1]
    return (steps * true / (true + false).clamp(1)).sum()
