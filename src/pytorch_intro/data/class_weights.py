"""Weights of classes: given by name, or computed from the number of training images of each class."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pytorch_intro.common.errors import UserError

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WeightsByName = Mapping[str, Weight]


def balanced_weights(counts: Tensor) -> Tensor:
    """Return the inverse number of images of each class, (num_classes,) float64."""
    return 1 / counts.clamp(min=1).double()


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """Return the inverse effective number of images of each class, (num_classes,) float64.

    n images have the effective number (1 - beta^n) / (1 - beta), since images of a class resemble each other
    (Cui et al. 2019, arXiv:1901.05555). beta=0 weighs all classes equally, beta close to 1 by inverse frequency.
    """
    return (1 - beta) / (1 - beta ** counts.clamp(min=1).double())


def named_weights(key: str, weights: WeightsByName, classes: Sequence[str]) -> Tensor:
    """Return the weights in the order of the classes, scaled to a maximum of 1; (num_classes,) float64.

    Args:
        key: Setting that has the weights, for the error.
    """
    by_name = {str(name): weight for name, weight in weights.items()}
    for name in by_name:
        if name not in classes:
            nearest = get_close_matches(name, classes, n=1, cutoff=0.4)
            remedy = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(classes)}"
            raise UserError(f"{key}.{name}={by_name[name]:g}: no such class; {remedy}")
    if missing := [name for name in classes if name not in by_name]:
        raise UserError(f"{key}: has no weight for {', '.join(missing)}; add one for each class")
    values = torch.tensor([by_name[name] for name in classes], dtype=torch.float64)
    if not values.any():
        raise UserError(f"{key}: the weights of all classes are 0; use a positive weight")
    return values / values.max()


def normalize_weights(key: str, weights: Tensor, counts: Tensor) -> Tensor:
    """Scale weights so that their mean over all images is 1; (num_classes,) float64."""
    total = (weights * counts).sum()
    if total == 0:
        raise UserError(f"{key}: all training images have weight 0; use a positive weight for their classes")
    return weights * counts.sum() / total


def describe_weights(weights: Tensor, classes: Sequence[str], shown: int = 10) -> str:
    """Return "Dress 0.5, Shirt 10"; of more classes than `shown`, the smallest and the largest weight."""
    pairs = [f"{name} {weight:.3g}" for name, weight in zip(classes, weights.tolist(), strict=True)]
    if len(pairs) <= shown:
        return ", ".join(pairs)
    return f"from {pairs[int(weights.argmin())]} to {pairs[int(weights.argmax())]}"
