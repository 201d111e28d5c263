"""Likely label errors, from the predictions of a run for images that it was not trained on.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068): the off-diagonal entries of the confident joint, ranked by
margin. Its authors' package, cleanlab, needs scikit-learn; SciPy, which that brings, slows every start by a second.
"""

import numpy as np


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows whose labels are likely wrong, the most likely first, the suggested classes, and the margins.

    A class's threshold is the mean probability that the images labeled with it get for it. An image is confidently of a
    class if its probability for it reaches the threshold; if several do, of the most probable one. Its label is likely
    wrong if that is not the class that it is labeled with.

    Args:
        probabilities: (N, num_classes) float, of images that the network was not trained on.
        labels: (N,) int64.

    Returns:
        rows: (K,) int64.
        suggested: (K,) int64, the confident class of each of these rows.
        margins: (K,) float, probability of the label minus that of the suggested class, ascending.
    """
    num_classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=own, minlength=num_classes)
    thresholds = np.divide(sums, counts, out=np.full(num_classes, np.inf), where=counts > 0)
    # The mean of equal probabilities may exceed them by a rounding error.
    confident = np.where(probabilities >= thresholds - 1e-6, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    rows = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != labels))
    margins = own[rows] - probabilities[rows, suggested[rows]]
    order = np.argsort(margins, kind="stable")
    return rows[order], suggested[rows[order]], margins[order]
