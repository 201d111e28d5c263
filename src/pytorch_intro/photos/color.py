"""Random changes of color; see data/augment/basic.py for shapes and dtypes."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pytorch_intro.data.augment.basic import (
    Share,
    Strength,
    adjust_brightness,
    adjust_contrast,
    check_gray_or_rgb,
    luminance,
    map_chunks,
    to_uint8,
)
from pytorch_intro.photos.groups import Groups, apply_by_group, sample_groups

Hue = Annotated[float, Field(ge=0, le=0.5)]

ADJUSTMENTS = ("brightness", "contrast", "saturation", "hue")


class ColorJitter(nn.Module):
    """Change each image's brightness, contrast, saturation and hue by random factors, in random order.

    Like v2.ColorJitter, which samples one set of factors per call. The order is the same for all images of a batch.

    Args:
        brightness: Limit of the factor, which is uniform in [1 - brightness, 1 + brightness], cut off at 0.
        contrast: Likewise.
        saturation: Likewise; without effect on gray images, as hue.
        hue: Limit of the shift, which is uniform in [-hue, hue]; 0.5 is the opposite color.
    """

    def __init__(
        self, brightness: Strength = 0.4, contrast: Strength = 0.4, saturation: Strength = 0.4, hue: Hue = 0.1
    ) -> None:
        super().__init__()
        self.strengths = dict(zip(ADJUSTMENTS, (brightness, contrast, saturation, hue), strict=True))

    def forward(self, images: Tensor) -> Tensor:
        check_gray_or_rgb(images)
        for adjustment, values in self.sample(images).items():
            images = adjust(images, adjustment, values)
        return images

    def sample(self, images: Tensor) -> dict[str, Tensor]:
        """Sample the factors of each adjustment and the shifts of the hue, (N,) float32 each, in a random order."""
        sampled = {}
        for index in torch.randperm(len(ADJUSTMENTS)).tolist():  # on the host, which decides what to call
            name = ADJUSTMENTS[index]
            if strength := self.strengths[name]:
                low, high = (-strength, strength) if name == "hue" else (max(0, 1 - strength), 1 + strength)
                sampled[name] = torch.empty(len(images), device=images.device).uniform_(low, high)
        return sampled


def adjust(images: Tensor, adjustment: str, values: Tensor) -> Tensor:
    """Apply an adjustment of ADJUSTMENTS with one factor or shift per image, (N,) float32."""
    functions = {
        "brightness": adjust_brightness,
        "contrast": adjust_contrast,
        "saturation": adjust_saturation,
        "hue": adjust_hue,
    }
    return functions[adjustment](images, values)


class RandomGrayscale(nn.Module):
    """Convert each image to gray with probability p, keeping the number of channels."""

    def __init__(self, p: Share = 0.1) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        check_gray_or_rgb(images)
        return apply_by_group(images, self.sample(images), [to_grayscale, None])

    def sample(self, images: Tensor) -> Groups:
        """Sample the images that become gray, and the others."""
        return sample_groups(images, [self.p, 1 - self.p])


def to_grayscale(images: Tensor) -> Tensor:
    """Apply v2.functional.rgb_to_grayscale, keeping the number of channels."""

    def convert(images: Tensor) -> Tensor:
        return to_uint8(luminance(images.float())).expand_as(images)

    return map_chunks(convert, images)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Apply v2.functional.adjust_saturation with one factor per image, (N,) float32."""
    check_gray_or_rgb(images)
    if images.shape[1] == 1:
        return images

    def adjust(images: Tensor, factors: Tensor) -> Tensor:
        pixels, factors = images.float(), factors[:, None, None, None]
        gray = luminance(pixels)
        return to_uint8(pixels.mul_(factors).add_(gray.mul_(1 - factors)))

    return map_chunks(adjust, images, factors)


def adjust_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Apply v2.functional.adjust_hue with one shift per image, (N,) float32 in [-0.5, 0.5], as shares of the circle."""
    check_gray_or_rgb(images)
    return images if images.shape[1] == 1 else map_chunks(shift_hue, images, shifts)


def shift_hue(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift the hue without conversion to HSV and back, by arithmetic, which is faster than comparisons.

    With value V, chroma C and a hue H of 6 per circle, a channel with its center at M is
    V - C clamp(d - 1, 0, 1), where d is the distance from H to M on the circle, in [0, 3].
    """
    pixels = images.float()
    red, green, blue = pixels.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    is_red = (red - value).add_(1).clamp_(min=0)  # 1 or 0: levels are whole numbers
    is_green = (green - value).add_(1).clamp_(min=0)
    # The hue times the chroma: from red, else from green, else from blue.
    hue = (red - green).add_(chroma, alpha=4)
    hue.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    hue.div_(chroma.clamp(min=1)).add_(6 * shifts[:, None, None, None])
    hue.sub_((hue / 6).round_().mul_(6))  # in [-3, 3]
    centers = torch.arange(-2.0, 3, 2, device=images.device).roll(-1)[:, None, None]  # red 0, green 2, blue -2
    distance_minus_1 = (hue - centers).abs_().sub_(3).abs_().neg_().add_(2)
    scale = 255.999 / 255  # as torchvision scales back from [0, 1]
    return to_uint8(torch.addcmul(value * scale, chroma * scale, distance_minus_1.clamp_(0, 1), value=-1))
