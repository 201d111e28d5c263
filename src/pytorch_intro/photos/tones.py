"""Changes of an image's levels; see data/augment/basic.py for shapes and dtypes."""

import torch
from torch import Tensor

from pytorch_intro.data.augment.basic import map_chunks, to_uint8


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Apply v2.functional.posterize with one number of bits per image, (N,) int64 in [0, 8]."""
    masks = (255 << (8 - bits)) & 255
    return images & masks.to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Apply v2.functional.solarize with one threshold per image, (N,) float32 in [0, 255]."""
    lowest = thresholds.ceil().short()[:, None, None, None]

    def invert_bright(images: Tensor, lowest: Tensor) -> Tensor:
        is_dark = images.short().sub_(lowest).bitwise_right_shift_(15)  # the sign: -1 or 0, faster than to compare
        return is_dark.bitwise_not_().byte().bitwise_xor_(images)

    return map_chunks(invert_bright, images, lowest)


def autocontrast(images: Tensor) -> Tensor:
    """Apply v2.functional.autocontrast: stretch each channel to [0, 255]."""

    def stretch(images: Tensor) -> Tensor:
        low, high = images.amin(dim=(2, 3), keepdim=True).float(), images.amax(dim=(2, 3), keepdim=True).float()
        is_flat = low == high
        scale = torch.where(is_flat, 1, (high - low) * (1 / 255))
        return to_uint8(images.float().sub_(low.masked_fill_(is_flat, 0)).div_(scale))

    return map_chunks(stretch, images)


def equalize(images: Tensor) -> Tensor:
    """Apply v2.functional.equalize: make all levels of each channel about equally frequent."""

    def equalize_chunk(images: Tensor) -> Tensor:
        pixels = images.flatten(2).long()
        counts = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int32, device=images.device)
        counts.scatter_add_(2, pixels, counts.new_ones(1, 1, 1).expand_as(pixels))
        below = counts.cumsum(2, dtype=torch.int32) - counts
        # As Pillow does: the brightest level's pixels do not count.
        brightest = counts.gather(2, pixels.amax(dim=2, keepdim=True))
        step = (pixels.shape[2] - brightest).div(255, rounding_mode="floor")
        levels = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
        levels = torch.where(step > 0, levels, torch.arange(256, device=images.device)).byte()
        return levels.gather(2, pixels).view_as(images)

    return map_chunks(equalize_chunk, images)
