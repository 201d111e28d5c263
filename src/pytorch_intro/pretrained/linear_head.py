"""The linear head of a network, fitted to features: multinomial logistic regression."""

import logging
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

log = logging.getLogger(__name__)

TYPICAL_EVALUATIONS = 60  # of the loss and its gradient, for each strength of the regularization
MAX_ITERATIONS = 200  # of L-BFGS, for each strength of the regularization
DEFAULT_L2 = 0.01  # without validation data


class Features(NamedTuple):
    """Features of images, (N, D) float32, and their labels, (N,) int64."""

    values: Tensor
    targets: Tensor


class Head(NamedTuple):
    """A linear head, with its L2 regularization and its metrics on the validation data.

    Attributes:
        weight: (num_classes, D) float32.
        bias: (num_classes,) float32.
        accuracy, loss: NaN without validation data.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    accuracy: float
    loss: float


def fit_heads(
    train: Features, val: Features | None, num_classes: int, l2_grid: Sequence[float], balanced: bool
) -> list[Head]:
    """Fit a head for each strength of the regularization, the best one first.

    Minimizes the mean cross-entropy plus l2 / 2 times the squared weights, with L-BFGS, from the strongest
    regularization to the weakest, each starting from the one before. The features are centered, and scaled by one
    number, so that the strengths mean the same for all networks. The best head has the highest validation accuracy,
    and among equals the lowest validation loss; without validation data, its strength is closest to DEFAULT_L2.

    Args:
        l2_grid: Strengths of the regularization.
        balanced: Whether to weight all classes equally, instead of all images.
    """
    center = train.values.mean(dim=0)
    scale = 1 / (train.values - center).square().mean().sqrt().clamp(min=1e-6)
    values = (train.values - center) * scale
    class_weights = None
    if balanced:
        counts = train.targets.bincount(minlength=num_classes)
        class_weights = len(train.targets) / (num_classes * counts.clamp(min=1).to(values.dtype))
    weight = torch.zeros(num_classes, values.shape[1], device=values.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=values.device, requires_grad=True)
    heads = []
    log_duration(values, weight, len(l2_grid))
    for l2 in sorted(l2_grid, reverse=True):
        started = time.perf_counter()
        minimize(values, train.targets, weight, bias, l2, class_weights)
        head_weight = weight.detach() * scale  # for features that are neither centered nor scaled
        head_bias = bias.detach() - head_weight @ center
        accuracy = loss = math.nan
        if val is not None:
            logits = val.values @ head_weight.T + head_bias
            accuracy = (logits.argmax(dim=1) == val.targets).double().mean().item()
            loss = cross_entropy(logits, val.targets).item()
        heads.append(Head(head_weight, head_bias, l2, accuracy, loss))
        if (seconds := time.perf_counter() - started) > 5:  # a sign of life
            metrics = "" if val is None else f"val/accuracy {accuracy:.4f}, val/loss {loss:.4f}, "
            log.info(f"finetune: L2 regularization {l2:g}, {len(heads)} of {len(l2_grid)}: {metrics}{seconds:.0f} s")
    if val is None:
        return sorted(heads, key=lambda head: abs(math.log(head.l2 / DEFAULT_L2)))
    return sorted(heads, key=lambda head: (-head.accuracy, head.loss))


def log_duration(values: Tensor, weight: Tensor, strengths: int) -> None:
    """Log about how long the fit will take, from the time of one evaluation of the loss and its gradient."""
    started = time.perf_counter()
    with torch.no_grad():
        (values @ weight.T).T @ values
        if values.is_cuda:
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) * TYPICAL_EVALUATIONS * strengths
    count, dim = values.shape
    log.info(f"finetune: fitting the head to {count:,} x {dim:,} features, {strengths} times, about {seconds:.0f} s")


def minimize(
    values: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, l2: float, class_weights: Tensor | None
) -> None:
    """Minimize the regularized loss over weight and bias, in place."""
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            fit = cross_entropy(values @ weight.T + bias, targets, weight=class_weights)
            loss = fit + l2 / 2 * weight.square().sum()
            loss.backward()
        return loss.item()

    optimizer.step(closure)
