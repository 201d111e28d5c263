"""Apply operations to random groups of a batch, without waiting for the device."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Operation = Callable[[Tensor], Tensor]


class Groups(NamedTuple):
    """Random groups of a batch: indices of its images (N,) int64, sorted by group, and the size of each group."""

    order: Tensor
    sizes: list[int]


def sample_groups(images: Tensor, shares: Sequence[float]) -> Groups:
    """Assign each image to a group, independently, with these probabilities.

    The host's RNG samples the sizes, so that the host knows them without waiting; the device's RNG samples which images
    are in which group. Together, this is the same distribution as one independent choice per image.
    """
    limits = torch.tensor(shares).cumsum(0)[:-1]
    choices = torch.bucketize(torch.rand(len(images)), limits, right=True)
    sizes = choices.bincount(minlength=len(shares)).tolist()
    return Groups(torch.rand(len(images), device=images.device).argsort(), sizes)


def apply_by_group(images: Tensor, groups: Groups, operations: Sequence[Operation | None]) -> Tensor:
    """Apply one operation to the images of each group; None leaves them as they are."""
    parts = images.index_select(0, groups.order).split(groups.sizes)
    applied = [
        operation(part) if operation and len(part) else part for operation, part in zip(operations, parts, strict=True)
    ]
    return torch.cat(applied).index_select(0, groups.order.argsort())
