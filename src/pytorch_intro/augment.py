"""Random augmentation of whole batches, one draw a sample, on the batch's device.

torchvision's random transforms draw once for whatever they are given, and so treat a whole batch alike.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn


class RandomHorizontalFlip(nn.Module):
    """Mirror each image left to right with probability p."""

    def __init__(self, p: Annotated[float, Field(ge=0, le=1)] = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) of any dtype, to the same."""
        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(flipped, images.flip(-1), images)
