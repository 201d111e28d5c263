"""Random flips, shifts and color changes of whole batches, sampled per image, on the batch's device.

torchvision's random transforms sample once per call, and so treat all images of a batch alike. These modules take
images (N, C, H, W) uint8 and return the same. They use the global RNG of the images' device. Values such as fill are
shares of white: 0 is black and 1 white. Modules with random boxes are in crops.py and erasing.py.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

CHUNK = 2**18  # values: as float32 they fit into the L2 cache of a CPU core
LARGE = 2**14  # values of an image that take longer than a call per image


class RandomHorizontalFlip(nn.Module):
    """Flip each image left to right with probability p."""

    def __init__(self, p: Share = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        return flip(images, self.sample(images), dim=-1)

    def sample(self, images: Tensor) -> Tensor:
        """Sample which images are flipped, (N,) bool."""
        return torch.rand(len(images), device=images.device) < self.p


def flip(images: Tensor, is_flipped: Tensor, dim: int) -> Tensor:
    """Flip some of the images along a dimension; is_flipped is (N,) bool."""
    if images.device.type == "cpu" and is_large(images):
        return torch.stack(
            [image.flip(dim) if flips else image for image, flips in zip(images, is_flipped.tolist(), strict=True)]
        )
    both = torch.cat([images, images.flip(dim)])  # on a CPU, selecting rows is several times as fast as torch.where
    return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * is_flipped)


def is_large(images: Tensor) -> bool:
    """Return whether a CPU is faster with one image after the other than with the whole batch."""
    return images[:1].numel() >= LARGE


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
        from torchvision.transforms.v2 import functional  # takes a second: not for predictions

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

    def adjust(images: Tensor, factors: Tensor) -> Tensor:
        return to_uint8(images.float().mul_(factors[:, None, None, None]))

    return map_chunks(adjust, images, factors)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Apply v2.functional.adjust_contrast with one factor per image, (N,) float32."""
    check_gray_or_rgb(images)

    def adjust(images: Tensor, factors: Tensor) -> Tensor:
        pixels, factors = images.float(), factors[:, None, None, None]
        mean = luminance(pixels).mean(dim=(1, 2, 3), keepdim=True)
        return to_uint8(pixels.mul_(factors).add_((1 - factors) * mean))

    return map_chunks(adjust, images, factors)


def check_gray_or_rgb(images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise ValueError(f"needs images of 1 channel (gray) or 3 (RGB), not {images.shape[1]}")


def fill_levels(images: Tensor, fill: float | list[float], name: str) -> Tensor:
    """Return levels in [0, 255], one per channel or one for all, (C or 1, 1, 1) in the dtype of the images."""
    # new_full fills on the device; torch.tensor(list) would copy from the host, which synchronizes.
    return torch.stack([images.new_full((1, 1), round(255 * share)) for share in check_fill(images, fill, name)])


def check_fill(images: Tensor, fill: float | list[float], name: str) -> list[float]:
    """Return the values of a setting, one per channel or one for all; any other number is a ValueError."""
    shares = fill if isinstance(fill, list) else [fill]
    if len(shares) not in (1, images.shape[1]):
        raise ValueError(f"{name}={shares}: {len(shares)} values, but the images have {images.shape[1]} channel(s)")
    return shares


def luminance(pixels: Tensor) -> Tensor:
    """Return the gray levels of torchvision, (N, 1 or 3, H, W) to (N, 1, H, W) float32 without decimals."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.split(1, dim=1)
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()


def to_uint8(pixels: Tensor) -> Tensor:
    """Clamp pixels in place to [0, 255] and cut off their decimals, as torchvision does."""
    return pixels.clamp_(0, 255).short().byte()  # a CPU converts float32 to int16 five times as fast as to uint8


def map_chunks(function: Callable[..., Tensor], images: Tensor, *parameters: Tensor) -> Tensor:
    """Return function(images, *parameters); on a CPU, of a few images at a time, whose pixels stay in its cache.

    All tensors have a first dimension of size N.
    """
    size = max(1, CHUNK // max(1, images[:1].numel()))
    if images.device.type != "cpu" or len(images) <= size:
        return function(images, *parameters)
    chunks = zip(*(tensor.split(size) for tensor in (images, *parameters)), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])
