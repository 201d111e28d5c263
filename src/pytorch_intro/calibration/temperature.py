"""The temperature of temperature scaling (Guo et al. 2017, arXiv:1706.04599), fitted to logits."""

import math
from typing import NamedTuple

from torch import Tensor

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MAX_ITERATIONS = 100  # Newton's method takes about 6; halving the interval alone would take 20
TOLERANCE = 1e-5  # relative size of the last step; the error is about its square
CHUNK = 2**16  # logits that are computed at once, in the cache of the CPU


class Fit(NamedTuple):
    """A temperature, and why it does not minimize the loss, "" if it does."""

    temperature: float
    problem: str = ""


def fit_temperature(logits: Tensor, targets: Tensor) -> Fit:
    """Return the temperature T that minimizes the mean negative log-likelihood of softmax(logits / T).

    The loss is convex in 1 / T. Newton's method finds the minimum in float64, within an interval that shrinks in each
    iteration. The result has six decimals, so that the order of the images does not change it.

    Args:
        logits: (N, num_classes) float, on the CPU. Images with NaN or inf are left out.
        targets: (N,) int64.
    """
    is_finite = logits.isfinite().all(dim=1)
    logits, targets = logits[is_finite].double(), targets[is_finite]
    if not len(targets):
        return Fit(1.0, "there are no finite logits")
    margins = logits - logits.gather(1, targets[:, None])  # of each class over the true one, whose margin is 0
    if not (margins > 0).any():
        return Fit(1.0, "all images are classified correctly, which the temperature cannot improve")
    lower, upper = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if derivatives(margins, lower)[0] >= 0:
        return Fit(MAX_TEMPERATURE, "this is the largest one that is tried")
    if derivatives(margins, upper)[0] <= 0:
        return Fit(MIN_TEMPERATURE, "this is the smallest one that is tried")
    inverse = 1.0
    for _ in range(MAX_ITERATIONS):
        slope, curvature = derivatives(margins, inverse)
        lower, upper = (lower, inverse) if slope > 0 else (inverse, upper)
        step = slope / curvature if curvature > 0 else math.inf
        if abs(step) <= TOLERANCE * inverse:
            inverse -= step
            break
        inverse = inverse - step if lower < inverse - step < upper else (lower * upper) ** 0.5
    return Fit(round(1 / inverse, 6))


def derivatives(margins: Tensor, inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean loss with respect to 1 / T, at `inverse`.

    The loss of an image is the logarithm of the sum of exp(margin / T).

    Args:
        margins: (N, num_classes) float64.
    """
    mean_sum = variance_sum = 0.0
    for part in margins.split(max(1, CHUNK // margins.shape[1])):
        probabilities = (part * inverse).softmax(dim=1)
        mean = (probabilities * part).sum(dim=1)
        variance = (probabilities * (part - mean[:, None]).square()).sum(dim=1)
        mean_sum += mean.sum().item()
        variance_sum += variance.sum().item()
    return mean_sum / len(margins), variance_sum / len(margins)
