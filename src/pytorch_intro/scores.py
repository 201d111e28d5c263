"""How a classifier fares on its test images, class by class."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15  # of the calibration error, as in Guo et al. 2017
THRESHOLDS = 127  # of precision and recall, from 0 to 1; as many as TensorBoard draws
MOST_CLASSES = 2000  # beyond, the matrix would take more memory than it is worth

Scores = dict[str, Any]


class ClassScores(Metric):
    """The confusion matrix, the calibration error and precision-recall curves of all images, over all processes.

    Sums on the device, whose size does not depend on the number of images. torchmetrics' own keep every probability,
    and an element for each image and each pair of classes where the device is to be deterministic.
    """

    full_state_update = False
    matrix: Tensor
    images: Tensor
    hits: Tensor
    confidences: Tensor
    histograms: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("matrix", torch.zeros(num_classes**2, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("images", "hits", "confidences"):
            self.add_state(name, torch.zeros(BINS), dist_reduce_fx="sum")
        empty = torch.zeros(2 * num_classes * THRESHOLDS, dtype=torch.int64)
        self.add_state("histograms", empty, dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (N, num_classes).
            targets: (N,) int64.
        """
        probabilities = logits.float().softmax(dim=1)
        confidences, predicted = probabilities.max(dim=1)
        self.matrix.index_add_(0, targets * self.num_classes + predicted, torch.ones_like(targets))
        bins = (confidences * BINS).ceil().long().clamp(1, BINS) - 1
        for sums, values in (
            (self.images, torch.ones_like(confidences)),
            (self.hits, (predicted == targets).float()),
            (self.confidences, confidences),
        ):
            sums.index_add_(0, bins, values)
        classes = torch.arange(self.num_classes, device=targets.device)
        rows = 2 * classes + (classes == targets[:, None]).long()
        bins = (probabilities * (THRESHOLDS - 1)).long().clamp(0, THRESHOLDS - 1)  # clamp: of NaN it is anything
        places = (rows * THRESHOLDS + bins).flatten()
        self.histograms.index_add_(0, places, torch.ones_like(places))

    def compute(self) -> dict[str, Tensor]:
        """What was gathered.

        Returns:
            matrix: (num_classes, num_classes) int64, rows are true classes.
            ece: () float32, the expected calibration error.
            histograms: (num_classes, 2, THRESHOLDS) int64, how often a class was given which probability: images of
                other classes (0) and of its own (1), from probability 0 to 1.
        """
        ece = (self.hits - self.confidences).abs().sum() / self.images.sum()
        return {
            "matrix": self.matrix.view(self.num_classes, self.num_classes),
            "ece": ece,
            "histograms": self.histograms.view(self.num_classes, 2, THRESHOLDS),
        }


def scores_of(measured: dict[str, Tensor], classes: Sequence[str]) -> Scores:
    """What a test tells of each class, in plain values.

    Args:
        measured: What ClassScores.compute gave.

    Returns:
        ece: The expected calibration error over 15 bins (Guo et al. 2017, arXiv:1706.04599).
        classes: Of each class, by name: precision, recall, f1 (shares of 1; 0 where there is nothing to share) and
            support (images).
        confusion_matrix: Images by true class (rows) and predicted class (columns).
    """
    matrix = measured["matrix"].cpu().double()
    hits, support, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    precision, recall, f1 = (
        hits / predicted.clamp(1),
        hits / support.clamp(1),
        2 * hits / (support + predicted).clamp(1),
    )
    columns = zip(precision.tolist(), recall.tolist(), f1.tolist(), support.long().tolist(), strict=True)
    each = [dict(zip(("precision", "recall", "f1", "support"), values, strict=True)) for values in columns]
    return {
        "ece": measured["ece"].item(),
        "classes": dict(zip(distinct(classes), each, strict=True)),
        "confusion_matrix": matrix.long().tolist(),
    }


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    counts: dict[str, int] = {}
    told = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        told.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return told


def confused_pairs(scores: Scores, count: int) -> list[str]:
    """The pairs of classes that are taken for each other most often, a line each."""
    names, mistakes = list(scores["classes"]), torch.tensor(scores["confusion_matrix"]).fill_diagonal_(0)
    support = torch.tensor(scores["confusion_matrix"]).sum(dim=1)
    both = (mistakes + mistakes.T).triu()
    pairs = [
        divmod(place, len(names)) for place in both.flatten().argsort(descending=True, stable=True)[:count].tolist()
    ]
    return [
        f"{names[row]} and {names[column]}: {both[row, column]:,} of {support[row] + support[column]:,}"
        for row, column in pairs
        if both[row, column]
    ]


def worst_confusion(scores: Scores) -> str:
    """The most frequent mistake, in one line."""
    names, matrix = list(scores["classes"]), torch.tensor(scores["confusion_matrix"])
    support = matrix.sum(dim=1)
    mistakes = matrix.fill_diagonal_(0)
    row, column = divmod(int(mistakes.argmax()), len(names))
    if not mistakes[row, column]:
        return "no image was mistaken for another class"
    return f"most often, {names[row]} is taken for {names[column]}: {mistakes[row, column]:,} of {support[row]:,}"
