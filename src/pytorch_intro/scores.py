"""How a classifier fares on its test images, class by class."""

from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

BINS = 15  # of the calibration error, as in Guo et al. 2017


def class_scores(num_classes: int) -> MetricCollection:
    """Gathers what scores_of tells, from probabilities (N, num_classes) and targets (N,)."""
    each: dict[str, Any] = {"num_classes": num_classes, "average": None}
    return MetricCollection(
        {
            "confusion_matrix": MulticlassConfusionMatrix(num_classes),
            "precision": MulticlassPrecision(**each),
            "recall": MulticlassRecall(**each),
            "f1": MulticlassF1Score(**each),
            "ece": MulticlassCalibrationError(num_classes, n_bins=BINS),
        }
    )


def scores_of(metrics: MetricCollection, classes: list[str]) -> dict[str, Any] | None:
    """What a test tells of each class; None if there was none. With several processes, all of them have to call it.

    Returns:
        ece: The expected calibration error over 15 bins (Guo et al. 2017, arXiv:1706.04599).
        classes: Of each class, by name: precision, recall, f1 (shares of 1) and support (images).
        confusion_matrix: Images by true class (rows) and predicted class (columns).
    """
    if not metrics["confusion_matrix"].update_called:
        return None
    values: dict[str, Tensor] = metrics.compute()
    matrix = values["confusion_matrix"].tolist()
    each = {
        name: {score: values[score][number].item() for score in ("precision", "recall", "f1")}
        | {"support": sum(matrix[number])}
        for number, name in enumerate(classes)
    }
    return {"ece": values["ece"].item(), "classes": each, "confusion_matrix": matrix}


def worst_confusion(scores: dict[str, Any]) -> str:
    """The most frequent mistake, in one line."""
    names, matrix = list(scores["classes"]), scores["confusion_matrix"]
    mistakes = {
        (row, column): matrix[row][column] for row in range(len(names)) for column in range(len(names)) if row != column
    }
    (row, column), count = max(mistakes.items(), key=lambda item: item[1])
    if not count:
        return "no image was mistaken for another class"
    return f"most often, {names[row]} is taken for {names[column]}: {count:,} of {sum(matrix[row]):,}"
