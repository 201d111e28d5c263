"""Random boxes, one per image, and the crop that resizes them; see basic.py for shapes and dtypes.

Boxes are sampled as torchvision does for one image: ten attempts, then a fallback.
"""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from pytorch_intro.data.augment.basic import is_large
from pytorch_intro.data.resize import interpolation_weights, resample

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
    """Crop a random box of each image and resize it.

    Like v2.RandomResizedCrop(size) with bilinear interpolation, which samples one box per call (Szegedy et al. 2014,
    arXiv:1409.4842).

    Args:
        scale: Limits of a box's area, as a share of the image's.
        ratio: Limits of its width over its height.
        size: Side or (H, W) of the result. None: size of the network's input, which DataModule sets; without a
            DataModule, that of the images.
    """

    def __init__(
        self,
        scale: tuple[Area, Area] = (0.08, 1.0),
        ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3),
        size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.ratio = ratio
        self.size = (size, size) if isinstance(size, int) else size and (size[0], size[1])

    def forward(self, images: Tensor) -> Tensor:
        return resized_crop(images, self.sample(images), self.size)

    def sample(self, images: Tensor) -> Boxes:
        """Sample ten boxes and take the first that fits; else the largest centered box within the ratio limits."""
        height, width = images.shape[-2:]
        widths, heights = sample_box_sizes(images, self.scale, self.ratio)
        fit = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        central_height, central_width = self.central_size(height, width)
        box_heights, box_widths = first_valid(heights, fit, central_height), first_valid(widths, fit, central_width)
        found = fit.any(dim=1)
        top = torch.where(found, sample_offsets(box_heights, height), (height - central_height) // 2)
        left = torch.where(found, sample_offsets(box_widths, width), (width - central_width) // 2)
        return Boxes(top, left, box_heights, box_widths)

    def sample_one(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Sample top, left, height and width of a box with Python's RNG: 20 times faster than a batch of one image."""
        for _ in range(ATTEMPTS):
            area = random.uniform(*self.scale) * height * width
            root = math.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])) / 2)
            box_height, box_width = round(math.sqrt(area) / root), round(math.sqrt(area) * root)
            if 0 < box_height <= height and 0 < box_width <= width:
                top, left = random.randint(0, height - box_height), random.randint(0, width - box_width)
                return top, left, box_height, box_width
        box_height, box_width = self.central_size(height, width)
        return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width

    def central_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the largest box within the ratio limits, at least one pixel each."""
        return max(1, min(height, round(width / self.ratio[0]))), max(1, min(width, round(height * self.ratio[1])))


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


def resized_crop(images: Tensor, boxes: Boxes, size: tuple[int, int] | None = None) -> Tensor:
    """Apply v2.functional.resized_crop with one box per image; antialiased.

    Args:
        size: (H, W) of the result; None: that of the images.
    """
    height, width = images.shape[-2:]
    size = size or (height, width)
    is_same = tuple(size) == (height, width)
    if images.device.type == "cpu" and images.dtype == torch.uint8 and (is_large(images) or not is_same):
        return resize_one_by_one(images, boxes, size)
    if is_same:  # boxes are only enlarged, so antialiasing has no effect
        return enlarged_crop(images, boxes)
    rows = interpolation_weights(boxes.top, boxes.height, height, size[0])
    columns = interpolation_weights(boxes.left, boxes.width, width, size[1])
    return resample(images, rows, columns).round().clamp(0, 255).to(images.dtype)


def resize_one_by_one(images: Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Resize a box of each image on the CPU, in as many threads as torch uses.

    `interpolate` has a kernel for uint8 images that takes a tenth of the time of matrix products.
    """
    pixels = images.permute(0, 2, 3, 1).numpy()
    resized = np.empty((len(images), *size, images.shape[1]), np.uint8)
    places = list(zip(*(values.tolist() for values in boxes), strict=True))

    def resize(numbers: range) -> None:
        for number in numbers:
            top, left, height, width = places[number]
            resized[number] = resize_box(pixels[number, top : top + height, left : left + width], size)

    threads = torch.get_num_threads()
    shares = [range(first, len(images), threads) for first in range(threads)]
    if threads == 1:
        resize(shares[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(resize, shares))  # list raises their errors
    return torch.from_numpy(resized).permute(0, 3, 1, 2).contiguous()


def resize_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (H, W, C) uint8, antialiased; channels last is the layout that `interpolate` is fastest with."""
    box = np.ascontiguousarray(box[None])  # NumPy copies in this thread; torch would start more threads
    resized = interpolate(torch.from_numpy(box).permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)[0].numpy()


def enlarged_crop(images: Tensor, boxes: Boxes) -> Tensor:
    """Enlarge boxes to the images' size."""
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
