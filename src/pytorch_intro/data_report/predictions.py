"""Predictions of one or several runs for the images of a survey."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pytorch_intro.data_report.survey import Survey


@dataclass
class Predictions:
    """Mean probabilities of the images that the runs were not trained on.

    Args:
        rows: Rows of the survey, (K,) int64, ascending.
        probabilities: (K, num_classes) float64.
        runs: Folders of the runs.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    runs: list[str]


def average_predictions(survey: Survey, outputs: Sequence[tuple[str, Tensor, Tensor]], runs: list[str]) -> Predictions:
    """Return the mean over the runs that have predicted an image.

    Args:
        outputs: The part of the dataset with the images (train, val or test), their rows in it, and their
            probabilities; of each run and split.
        runs: Folders of the runs.
    """
    rows = np.concatenate([survey.rows_in(part, indices.numpy()) for part, indices, _ in outputs])
    probabilities = np.concatenate([values.double().numpy() for *_, values in outputs])
    unique, position, count = np.unique(rows, return_inverse=True, return_counts=True)
    sums = np.zeros((len(unique), probabilities.shape[1]))
    np.add.at(sums, position, probabilities)
    return Predictions(unique, sums / count[:, None], runs)
