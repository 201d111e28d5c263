"""A random part of each image, enlarged to the image's size."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from pytorch_intro.augment import white
from pytorch_intro.random_boxes import Boxes, Ratio, check_limits, draw_sides, draw_start, first

Area = Annotated[float, Field(gt=0, le=1)]


class RandomResizedCrop(nn.Module):
    """Cut a random box out of each image and enlarge it to the image's size.

    As v2.RandomResizedCrop((H, W)) with bilinear interpolation, which draws one box a call (Szegedy et al. 2014,
    arXiv:1409.4842). Nothing is ever made smaller, and so there is nothing for antialiasing to do.

    Args:
        scale: Limits of a box's area, as a share of the image's.
        ratio: Limits of its width over its height.

    Raises:
        UserError: if limits are not from low to high.
    """

    def __init__(self, scale: tuple[Area, Area] = (0.08, 1.0), ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)) -> None:
        super().__init__()
        check_limits("RandomResizedCrop", scale=scale, ratio=ratio)
        self.scale = scale
        self.ratio = ratio

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), to the same."""
        return resized_crop(images, self.draw(images))

    def draw(self, images: Tensor) -> Boxes:
        """Ten attempts at a box that fits; if none does, the largest of a permitted ratio in the middle."""
        height, width = images.shape[-2:]
        widths, heights = draw_sides(images, self.scale, self.ratio)
        fit = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        central_height = max(1, min(height, round(width / self.ratio[0])))
        central_width = max(1, min(width, round(height * self.ratio[1])))
        box_heights, box_widths = first(heights, fit, central_height), first(widths, fit, central_width)
        found = fit.any(dim=1)
        top = torch.where(found, draw_start(box_heights, height), (height - central_height) // 2)
        left = torch.where(found, draw_start(box_widths, width), (width - central_width) // 2)
        return Boxes(top, left, box_heights, box_widths)


def resized_crop(images: Tensor, boxes: Boxes) -> Tensor:
    """v2.functional.resized_crop back to the images' own size, with one box a sample."""
    height, width = images.shape[-2:]
    rows = places(boxes.top, boxes.height, height)[:, :, None].expand(-1, -1, width)
    columns = places(boxes.left, boxes.width, width)[:, None, :].expand(-1, height, -1)
    enlarged = grid_sample(images.float(), torch.stack([columns, rows], dim=3), align_corners=False)
    enlarged = enlarged.clamp(0, white(images))  # rounding may lead a little beyond
    return enlarged.to(images.dtype) if images.is_floating_point() else enlarged.round().to(images.dtype)


def places(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Where the pixels of parts that are enlarged to size come from, (N, size) float32 in -1…1, from end to end.

    Args:
        starts, lengths: Of the parts, in pixels, (N,) int64 each.
    """
    starts, lengths = starts[:, None], lengths[:, None]
    pixels = starts + (torch.arange(size, device=starts.device) + 0.5) * (lengths / size)
    # from the first pixel's centre to the last's: what is beyond the part must not be mixed in
    return pixels.clamp(starts + 0.5, starts + lengths - 0.5) * (2 / size) - 1
