"""Random rectangles, one an image, as torchvision draws them for one image: up to ten attempts, then what is left."""

import math
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pytorch_intro.errors import UserError

Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]

ATTEMPTS = 10


class Boxes(NamedTuple):
    """One rectangle an image: first row, first column and sides in pixels, (N,) int64 each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def draw_sides(images: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Sides of random areas and aspect ratios, whether they fit or not, (N, ATTEMPTS) int64 each.

    Args:
        scale: Limits of the area, as a share of the image's (N, C, H, W).
        ratio: Limits of the first side over the second; its logarithm is drawn evenly.
    """
    area = torch.empty(len(images), ATTEMPTS, device=images.device).uniform_(*scale) * math.prod(images.shape[-2:])
    root = (torch.empty_like(area).uniform_(math.log(ratio[0]), math.log(ratio[1])) / 2).exp()
    return (area.sqrt() * root).round().long(), (area.sqrt() / root).round().long()


def first(candidates: Tensor, fit: Tensor, otherwise: int) -> Tensor:
    """The first candidate of each row that fits, (N, ATTEMPTS) to (N,)."""
    chosen = candidates.gather(1, fit.int().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(fit.any(dim=1), chosen, otherwise)


def draw_start(lengths: Tensor, size: int) -> Tensor:
    """Where in 0…size parts of these lengths (N,) begin: any place is as likely."""
    return (torch.rand(len(lengths), device=lengths.device) * (size - lengths + 1)).long()


def check_limits(module: str, **limits: tuple[float, float]) -> None:
    """Raise a UserError unless all limits are from low to high."""
    for name, (low, high) in limits.items():
        if low > high:
            raise UserError(f"data.augment: {module}({name}=[{low}, {high}]) begins above its end; swap the two")
