"""Random augmentation of whole batches, one draw a sample, on the batch's device.

torchvision's random transforms draw once for whatever they are given, and so treat a whole batch alike. The modules
here take images (N, C, H, W), uint8 in [0, 255] or float in [0, 1], and return the same shape, dtype and range. They
draw from torch's global generator of the images' device. Random boxes are in resized_crop.py and erasing.py.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from pytorch_intro.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

GOLDEN_RATIO = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / phi as int64: Knuth, The Art of Computer Programming 3, 6.4


def white(images: Tensor) -> int:
    """The highest value of a pixel: 1 of float images, 255 of uint8."""
    return 1 if images.is_floating_point() else 255


class RandomHorizontalFlip(nn.Module):
    """Mirror each image left to right with probability p."""

    def __init__(self, p: Share = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) of any dtype, to the same."""
        flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(flipped, images.flip(-1), images)


class AlternatingFlip(nn.Module):
    """Mirror each image left to right in every other epoch, so that two epochs show both sides of every image.

    Jordan 2024 (arXiv:2404.00498, section 3.6). Whether an image begins mirrored is drawn once for each image. Batches
    carry no indices: the draw is a hash of the image's pixels, and so this has to be the first module of a sequence,
    while they are unaltered.

    Args:
        seed: Of the draw.

    Attributes:
        epoch: The current epoch, from 0; to be set before each batch.
    """

    def __init__(self, seed: Annotated[int, Field(ge=0, lt=2**32)] = 0) -> None:
        super().__init__()
        self.seed = seed
        self.epoch = 0

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) of any dtype, to the same."""
        flipped = (pixel_bit(images, self.seed) + self.epoch) % 2 == 1
        return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def pixel_bit(images: Tensor, seed: int) -> Tensor:
    """A random bit for each image, (N, C, H, W) to (N,) bool, that depends on nothing but its pixels and the seed."""
    pixels = images.float().view(torch.int32) if images.is_floating_point() else images
    total = pixels.sum(dim=(1, 2, 3), dtype=torch.int64)  # of integers, exact in any order
    mixed = (total + seed) * GOLDEN_RATIO
    return (mixed ^ (mixed >> 32)) * GOLDEN_RATIO < 0


class RandomCrop(nn.Module):
    """Shift each image at random: pad all sides, and cut a window of the image's size out at a random place.

    As v2.RandomCrop((H, W), padding), which draws one place a call.

    Args:
        padding: Pixels on each side, and so the longest shift.
        padding_mode: Pad with fill, or with the image reflected at its border.
        fill: Of constant padding; 0 is black and 1 white, for all dtypes.

    Raises:
        UserError: if the padding is longer than a side, or as long where the image is to be reflected.
    """

    def __init__(
        self, padding: PositiveInt, padding_mode: Literal["constant", "reflect"] = "constant", fill: Share = 0.0
    ) -> None:
        super().__init__()
        self.padding = padding
        self.padding_mode = padding_mode
        self.fill = fill

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), to the same."""
        return windows(self.padded(images), *self.draw(images), images.shape[-2:])

    def draw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The windows' first rows and columns in the padded images, (N,) int64 in 0…2 padding each."""
        size = (2, len(images))
        tops, lefts = torch.randint(0, 2 * self.padding + 1, size, device=images.device)
        return tops, lefts

    def padded(self, images: Tensor) -> Tensor:
        """The images with padding on all sides."""
        height, width = images.shape[-2:]
        longest = min(height, width) - (self.padding_mode == "reflect")
        if self.padding > longest:  # which would show nothing of some images, or have nothing to reflect
            raise UserError(
                f"data.augment: RandomCrop(padding={self.padding}, padding_mode={self.padding_mode}) is too wide for "
                f"images of {height} x {width} pixels; choose a padding of at most {longest}"
            )
        fill = self.fill * white(images)
        fill = fill if images.is_floating_point() else round(fill)
        return functional.pad(images, [self.padding], fill=fill, padding_mode=self.padding_mode)


def windows(images: Tensor, tops: Tensor, lefts: Tensor, size: tuple[int, ...]) -> Tensor:
    """One window of a size (height, width) of each image, whose first row and column are given, (N,) int64 each."""
    height, width = size
    everywhere = images.unfold(2, height, 1).unfold(3, width, 1)  # a view; (N, C, tops, lefts, height, width)
    return everywhere[torch.arange(len(images), device=images.device), :, tops, lefts]


class RandomBrightnessContrast(nn.Module):
    """Change each image's brightness, and then its contrast, by random factors.

    As v2.ColorJitter(brightness, contrast), which draws one pair of factors a call, and their order too.

    Args:
        brightness, contrast: Factors are drawn evenly from 1 - this, but at least 0, to 1 + this.

    Raises:
        UserError: if the images are neither gray nor RGB.
    """

    def __init__(self, brightness: Strength = 0.2, contrast: Strength = 0.2) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W), to the same."""
        brightness, contrast = self.draw(images)
        return adjust_contrast(adjust_brightness(images, brightness), contrast)

    def draw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of brightness and of contrast, (N,) float32 each."""
        factors = torch.empty(2, len(images), device=images.device)
        factors[0].uniform_(max(0, 1 - self.brightness), 1 + self.brightness)
        factors[1].uniform_(max(0, 1 - self.contrast), 1 + self.contrast)
        return factors[0], factors[1]


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """v2.functional.adjust_brightness, by one factor a sample, (N,) float32."""
    brighter = images * factors[:, None, None, None]
    return brighter.clamp(0, white(images)).to(images.dtype)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """v2.functional.adjust_contrast, away from each image's mean gray, by one factor a sample, (N,) float32."""
    factors = factors[:, None, None, None]
    mean = luma(images).mean(dim=(1, 2, 3), keepdim=True)
    return (factors * images + (1 - factors) * mean).clamp(0, white(images)).to(images.dtype)


def luma(images: Tensor) -> Tensor:
    """(N, 1 or 3, H, W) to gray, (N, 1, H, W) float32 with values of uint8 rounded down: ITU-R 601, as torchvision."""
    if images.shape[1] not in (1, 3):
        raise UserError(
            f"data.augment: RandomBrightnessContrast takes gray or RGB images, and these have {images.shape[1]} "
            "channels; leave it out"
        )
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.float().split(1, dim=1)
    gray = 0.2989 * red + 0.587 * green + 0.114 * blue
    return gray if images.is_floating_point() else gray.floor()
