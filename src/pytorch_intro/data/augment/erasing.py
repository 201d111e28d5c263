"""Erasing of a random box of each image; see basic.py for shapes and dtypes."""

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pytorch_intro.data.augment.basic import Share, fill_levels
from pytorch_intro.data.augment.crops import Boxes, Ratio, first_valid, sample_box_sizes, sample_offsets

Value = Share | Annotated[list[Share], Field(min_length=1)]  # of all channels, or of each


class RandomErasing(nn.Module):
    """Fill a random box of each image with probability p (Zhong et al. 2017, arXiv:1708.04896).

    Like v2.RandomErasing, which samples one box per call.

    Args:
        scale: Limits of a box's area, as a share of the image's.
        ratio: Limits of its height over its width.
    """

    def __init__(
        self,
        p: Share = 0.5,
        scale: tuple[Share, Share] = (0.02, 0.33),
        ratio: tuple[Ratio, Ratio] = (0.3, 3.3),
        value: Value = 0.0,
    ) -> None:
        super().__init__()
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return erase(images, self.sample(images), self.value)

    def sample(self, images: Tensor) -> Boxes:
        """Sample ten boxes with sides shorter than the image's and take the first; height 0 erases nothing."""
        height, width = images.shape[-2:]
        heights, widths = sample_box_sizes(images, self.scale, self.ratio)
        fit = (heights < height) & (widths < width)
        chosen = torch.rand(len(images), device=images.device) < self.p
        box_heights, box_widths = first_valid(heights, fit, 0) * chosen, first_valid(widths, fit, 0)
        return Boxes(sample_offsets(box_heights, height), sample_offsets(box_widths, width), box_heights, box_widths)


class Cutout(nn.Module):
    """Fill a square of each image, clipped at the borders (DeVries & Taylor 2017, arXiv:1708.04552).

    Its side is size pixels, its center uniform over the image.
    """

    def __init__(self, size: PositiveInt, value: Value = 0.0) -> None:
        super().__init__()
        self.size = size
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return erase(images, self.sample(images), self.value)

    def sample(self, images: Tensor) -> Boxes:
        """Sample squares that may extend beyond the image."""
        centers = (torch.randint(length, (len(images),), device=images.device) for length in images.shape[-2:])
        top, left = (center - self.size // 2 for center in centers)
        side = torch.full_like(top, self.size)
        return Boxes(top, left, side, side)


def erase(images: Tensor, boxes: Boxes, value: float | list[float]) -> Tensor:
    """Apply v2.functional.erase with one box per image; parts outside the image are ignored."""
    levels = fill_levels(images, value, "value")
    height, width = images.shape[-2:]
    rows = interval_mask(boxes.top, boxes.height, height)[:, None, :, None]
    columns = interval_mask(boxes.left, boxes.width, width)[:, None, None, :]
    return torch.where(rows & columns, levels, images)


def interval_mask(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Return which of size pixels lie in each interval, (N,) and (N,) int64 to (N, size) bool."""
    distance = torch.arange(size, device=starts.device) - starts[:, None]
    return (distance >= 0) & (distance < lengths[:, None])
