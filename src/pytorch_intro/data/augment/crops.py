"""Random boxes, one per image, and the crop that enlarges them; see basic.py for shapes and dtypes.

Boxes are sampled as torchvision does for one image: ten attempts, then a fallback.
"""

import math
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import grid_sample

Area = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]

ATTEMPTS = 10


class Boxes(NamedTuple):
    """One box per image: first row, first column and sides in pixels, (N,) int64 each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class RandomResizedCrop(nn.Module):
    """Crop a random box of each image and enlarge it to the image's size.

    Like v2.RandomResizedCrop((H, W)) with bilinear interpolation, which samples one box per call (Szegedy et al. 2014,
    arXiv:1409.4842). Boxes are only ever enlarged, so antialiasing has no effect.

    Args:
        scale: Limits of a box's area, as a share of the image's.
        ratio: Limits of its width over its height.
    """

    def __init__(self, scale: tuple[Area, Area] = (0.08, 1.0), ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)) -> None:
        super().__init__()
        self.scale = scale
        self.ratio = ratio

    def forward(self, images: Tensor) -> Tensor:
        return resized_crop(images, self.sample(images))

    def sample(self, images: Tensor) -> Boxes:
        """Sample ten boxes and take the first that fits; else the largest centered box within the ratio limits."""
        height, width = images.shape[-2:]
        widths, heights = sample_box_sizes(images, self.scale, self.ratio)
        fit = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        central_height = max(1, min(height, round(width / self.ratio[0])))
        central_width = max(1, min(width, round(height * self.ratio[1])))
        box_heights, box_widths = first_valid(heights, fit, central_height), first_valid(widths, fit, central_width)
        found = fit.any(dim=1)
        top = torch.where(found, sample_offsets(box_heights, height), (height - central_height) // 2)
        left = torch.where(found, sample_offsets(box_widths, width), (width - central_width) // 2)
        return Boxes(top, left, box_heights, box_widths)


def sample_box_sizes(images: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Sample box sides, fitting or not, (N, ATTEMPTS) int64 each.

    The area, as a share of the image's, is uniform; the ratio of the first side to the second is log-uniform.
    """
    for name, (low, high) in {"scale": scale, "ratio": ratio}.items():
        if low > high:
            raise ValueError(f"{name}=[{low}, {high}]: lower limit above upper limit")
    area = torch.empty(len(images), ATTEMPTS, device=images.device).uniform_(*scale) * math.prod(images.shape[-2:])
    root = (torch.empty_like(area).uniform_(math.log(ratio[0]), math.log(ratio[1])) / 2).exp()
    return (area.sqrt() * root).round().long(), (area.sqrt() / root).round().long()


def sample_offsets(lengths: Tensor, size: int) -> Tensor:
    """Sample uniformly where intervals of these lengths (N,) start within [0, size)."""
    return (torch.rand(len(lengths), device=lengths.device) * (size - lengths + 1)).long()


def first_valid(candidates: Tensor, is_valid: Tensor, default: int) -> Tensor:
    """Return each row's first valid candidate, (N, ATTEMPTS) to (N,)."""
    chosen = candidates.gather(1, is_valid.int().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(is_valid.any(dim=1), chosen, default)


def resized_crop(images: Tensor, boxes: Boxes) -> Tensor:
    """Apply v2.functional.resized_crop, back to the images' size, with one box per image."""
    height, width = images.shape[-2:]
    rows = sampling_grid(boxes.top, boxes.height, height)[:, :, None].expand(-1, -1, width)
    columns = sampling_grid(boxes.left, boxes.width, width)[:, None, :].expand(-1, height, -1)
    enlarged = grid_sample(images.float(), torch.stack([columns, rows], dim=3), align_corners=False)
    return enlarged.round().clamp(0, 255).to(images.dtype)


def sampling_grid(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Return grid_sample coordinates that enlarge intervals to size pixels, (N, size) float32 in [-1, 1].

    starts and lengths are in pixels, (N,) int64.
    """
    starts, lengths = starts[:, None], lengths[:, None]
    pixels = starts + (torch.arange(size, device=starts.device) + 0.5) * (lengths / size)
    # From the first pixel's center to the last's, so that pixels outside the interval are not mixed in.
    return pixels.clamp(starts + 0.5, starts + lengths - 0.5) * (2 / size) - 1
