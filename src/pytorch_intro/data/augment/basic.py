"""Random flips, shifts and color changes of whole batches, sampled per image, on the batch's device.

torchvision's random transforms sample once per call, and so treat all images of a batch alike. These modules take
images (N, C, H, W) uint8 and return the same. They use the global RNG of the images' device. Values such as fill are
shares of white: 0 is black and 1 white. Modules with random boxes are in crops.py and erasing.py.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RandomHorizontalFlip(nn.Module):
    """Flip each image left to right with probability p."""

    def __init__(self, p: Share = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        flipped = torch.rand(len(images), device=images.device) < self.p
        both = torch.cat([images, images.flip(-1)])  # to take whole images is faster than torch.where per pixel
        return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * flipped)


class RandomCrop(nn.Module):
    """Pad each side of an image by some pixels, then crop it at a random position to its size: a random shift.

    Like v2.RandomCrop((H, W), padding), which samples one position per call.
    """

    def __init__(
        self, padding: PositiveInt, padding_mode: Literal["constant", "reflect"] = "constant", fill: Share = 0.0
    ) -> None:
        super().__init__()
        self.padding = padding
        self.padding_mode = padding_mode
        self.fill = fill

    def forward(self, images: Tensor) -> Tensor:
        return gather_crops(self.pad(images), *self.sample(images), images.shape[-2:])

    def sample(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Sample each crop's first row and column in the padded image, (N,) int64 in [0, 2 padding]."""
        tops, lefts = torch.randint(0, 2 * self.padding + 1, (2, len(images)), device=images.device)
        return tops, lefts

    def pad(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        longest = min(height, width) - (self.padding_mode == "reflect")
        if self.padding > longest:  # some crops would miss the image, or reflection would lack pixels
            raise ValueError(f"padding={self.padding}: {height} x {width} pixels allow at most {longest}")
        return functional.pad(images, [self.padding], fill=round(255 * self.fill), padding_mode=self.padding_mode)


def gather_crops(images: Tensor, tops: Tensor, lefts: Tensor, size: tuple[int, ...]) -> Tensor:
    """Crop each image to size (height, width) at its first row and column, (N,) int64 each."""
    height, width = size
    all_crops = images.unfold(2, height, 1).unfold(3, width, 1)  # a view; (N, C, tops, lefts, height, width)
    return all_crops[torch.arange(len(images), device=images.device), :, tops, lefts]


class RandomBrightnessContrast(nn.Module):
    """Scale each image's brightness, then its contrast, by random factors.

    Like v2.ColorJitter(brightness, contrast), which samples one pair of factors per call, and their order. Factors are
    uniform in [1 - strength, 1 + strength], cut off at 0.
    """

    def __init__(self, brightness: Strength = 0.2, contrast: Strength = 0.2) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast

    def forward(self, images: Tensor) -> Tensor:
        brightness, contrast = self.sample(images)
        return adjust_contrast(adjust_brightness(images, brightness), contrast)

    def sample(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Sample the factors of brightness and of contrast, (N,) float32 each."""
        brightness, contrast = torch.empty(2, len(images), device=images.device)
        brightness.uniform_(max(0, 1 - self.brightness), 1 + self.brightness)
        contrast.uniform_(max(0, 1 - self.contrast), 1 + self.contrast)
        return brightness, contrast


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Apply v2.functional.adjust_brightness with one factor per image, (N,) float32."""
    return (images * factors[:, None, None, None]).clamp(0, 255).to(images.dtype)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Apply v2.functional.adjust_contrast with one factor per image, (N,) float32."""
    if images.shape[1] not in (1, 3):
        raise ValueError(f"the images have {images.shape[1]} channels, but it needs gray or RGB")
    factors = factors[:, None, None, None]
    mean = functional.rgb_to_grayscale(images).float().mean(dim=(1, 2, 3), keepdim=True)
    return (factors * images + (1 - factors) * mean).clamp(0, 255).to(images.dtype)
