"""A random box of each image painted over."""

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pytorch_intro.augment import Share, white
from pytorch_intro.errors import UserError
from pytorch_intro.random_boxes import Boxes, Ratio, check_limits, draw_sides, draw_start, first

Value = Share | Annotated[list[Share], Field(min_length=1)]


class RandomErasing(nn.Module):
    """Paint a random box of each image over, with probability p (Zhong et al. 2017, arXiv:1708.04896).

    As v2.RandomErasing, which draws one box a call.

    Args:
        p: Probability that an image gets a box.
        scale: Limits of a box's area, as a share of the image's.
        ratio: Limits of its height over its width.
        value: The paint, of all channels or of each; 0 is black and 1 white, for all dtypes.

    Raises:
        UserError: if limits are not from low to high, or if there are not as many values as channels.
    """

    def __init__(
        self,
        p: Share = 0.5,
        scale: tuple[Share, Share] = (0.02, 0.33),
        ratio: tuple[Ratio, Ratio] = (0.3, 3.3),
        value: Value = 0.0,
    ) -> None:
        super().__init__()
        check_limits("RandomErasing", scale=scale, ratio=ratio)
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), to the same."""
        return erase(images, self.draw(images), self.value)

    def draw(self, images: Tensor) -> Boxes:
        """Ten attempts at a box with sides shorter than the image's; a box of no height leaves the image alone."""
        height, width = images.shape[-2:]
        heights, widths = draw_sides(images, self.scale, self.ratio)
        fit = (heights < height) & (widths < width)
        chosen = torch.rand(len(images), device=images.device) < self.p
        box_heights, box_widths = first(heights, fit, 0) * chosen, first(widths, fit, 0)
        return Boxes(draw_start(box_heights, height), draw_start(box_widths, width), box_heights, box_widths)


class Cutout(nn.Module):
    """Paint a square of each image over, what of it lies within the image (DeVries & Taylor 2017, arXiv:1708.04552).

    Args:
        size: The square's side in pixels; its centre is anywhere in the image.
        value: The paint, of all channels or of each; 0 is black and 1 white, for all dtypes.

    Raises:
        UserError: if there are not as many values as channels.
    """

    def __init__(self, size: PositiveInt, value: Value = 0.0) -> None:
        super().__init__()
        self.size = size
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), to the same."""
        return erase(images, self.draw(images), self.value)

    def draw(self, images: Tensor) -> Boxes:
        """Squares that may begin before the image or end behind it."""
        height, width = images.shape[-2:]
        top = torch.randint(height, (len(images),), device=images.device) - self.size // 2
        left = torch.randint(width, (len(images),), device=images.device) - self.size // 2
        side = torch.full_like(top, self.size)
        return Boxes(top, left, side, side)


def erase(images: Tensor, boxes: Boxes, value: float | list[float]) -> Tensor:
    """v2.functional.erase, with one box a sample; what of it lies outside the image counts for nothing."""
    height, width = images.shape[-2:]
    rows = covered(boxes.top, boxes.height, height)[:, None, :, None]
    columns = covered(boxes.left, boxes.width, width)[:, None, None, :]
    return torch.where(rows & columns, paint(images, value), images)


def covered(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Which of the size pixels of a line are in its part, (N,) and (N,) int64 to (N, size) bool."""
    distance = torch.arange(size, device=starts.device) - starts[:, None]
    return (distance >= 0) & (distance < lengths[:, None])


def paint(images: Tensor, value: float | list[float]) -> Tensor:
    """The value in the images' dtype and range, (1 or C, 1, 1)."""
    shares = value if isinstance(value, list) else [value]
    if len(shares) not in (1, images.shape[1]):
        raise UserError(
            f"data.augment: value={shares} has {len(shares)} values, and the images have {images.shape[1]} channel(s); "
            "give one value, or one a channel"
        )
    levels = shares if images.is_floating_point() else [round(share * white(images)) for share in shares]
    # full fills on the device; a tensor made from a list would be copied there, and the copy waited for
    return torch.stack([torch.full((1, 1), level, dtype=images.dtype, device=images.device) for level in levels])
