"""Policies that apply random operations to each image; see data/augment/basic.py for shapes and dtypes."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from pytorch_intro.data.augment.basic import adjust_brightness, adjust_contrast, check_fill, check_gray_or_rgb
from pytorch_intro.data.augment.erasing import Value
from pytorch_intro.photos.color import adjust_saturation
from pytorch_intro.photos.filters import adjust_sharpness
from pytorch_intro.photos.geometry import Interpolation, warp
from pytorch_intro.photos.groups import Groups, apply_by_group, sample_groups
from pytorch_intro.photos.tones import autocontrast, equalize, posterize, solarize

MAX_LEVEL = 30  # magnitudes have 31 levels
Level = Annotated[int, Field(ge=0, le=MAX_LEVEL)]


class Range(NamedTuple):
    """Magnitudes of an operation: at level 0, at the highest level, and whether their sign is random."""

    first: float
    last: float
    is_signed: bool = False


# Operations on levels by name: functions of images and magnitudes (N,) float32.
LEVEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda images, magnitudes: adjust_brightness(images, 1 + magnitudes),
    "color": lambda images, magnitudes: adjust_saturation(images, 1 + magnitudes),
    "contrast": lambda images, magnitudes: adjust_contrast(images, 1 + magnitudes),
    "sharpness": lambda images, magnitudes: adjust_sharpness(images, 1 + magnitudes),
    "posterize": lambda images, magnitudes: posterize(images, magnitudes.round().long()),
    "solarize": lambda images, magnitudes: solarize(images, 255 * magnitudes),
    "autocontrast": lambda images, _: autocontrast(images),
    "equalize": lambda images, _: equalize(images),
}
GEOMETRIC_OPERATIONS = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPERATIONS = ("identity", *GEOMETRIC_OPERATIONS, *LEVEL_OPERATIONS)


class Choice(NamedTuple):
    """One operation per image: the groups with the same one, and levels and signs in their order, (N,) float32."""

    groups: Groups
    levels: Tensor
    signs: Tensor


class RandomOperations(nn.Module):
    """Apply one of OPERATIONS to each image, computed together for images with the same one.

    Subclasses define the magnitudes.

    Args:
        level: Level of all magnitudes; None: random, from 0 to 30.
    """

    def __init__(self, level: int | None, interpolation: Interpolation, fill: float | list[float]) -> None:
        super().__init__()
        self.level = level
        self.interpolation: Interpolation = interpolation
        self.fill = fill

    def ranges(self, height: int, width: int) -> dict[str, Range]:
        """Return the magnitudes of each operation that has some."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.apply_operations(images, self.sample(images))

    def sample(self, images: Tensor) -> Choice:
        """Sample an operation, a level and a sign for each image."""
        count, device = len(images), images.device
        groups = sample_groups(images, [1 / len(OPERATIONS)] * len(OPERATIONS))
        lowest, highest = (0, MAX_LEVEL) if self.level is None else (self.level, self.level)
        levels = torch.randint(lowest, highest + 1, (count,), device=device).float()
        return Choice(groups, levels, torch.randint(0, 2, (count,), device=device).float() * 2 - 1)

    def apply_operations(self, images: Tensor, choice: Choice) -> Tensor:
        """Apply the sampled operations."""
        check_gray_or_rgb(images)
        check_fill(images, self.fill, "fill")
        ranges, sizes = self.ranges(*images.shape[-2:]), choice.groups.sizes
        calls = []
        for name, levels, signs in zip(OPERATIONS, choice.levels.split(sizes), choice.signs.split(sizes), strict=True):
            first, last, is_signed = ranges.get(name, Range(0, 0))
            magnitudes = first + (last - first) * (levels / MAX_LEVEL)
            calls.append(partial(self.apply_one, name, magnitudes * signs if is_signed else magnitudes))
        return apply_by_group(images, choice.groups, calls)

    def apply_one(self, operation: str, magnitudes: Tensor, images: Tensor) -> Tensor:
        """Apply one operation to all images, with magnitudes (N,) float32."""
        if operation == "identity":
            return images
        if operation in GEOMETRIC_OPERATIONS:
            matrices = operation_matrices(operation, magnitudes, *images.shape[-2:])
            return warp(images, matrices, self.interpolation, self.fill)
        return LEVEL_OPERATIONS[operation](images, magnitudes)


class RandAugment(RandomOperations):
    """Apply num_ops random operations of the same magnitude to each image (Cubuk et al. 2019, arXiv:1909.13719).

    Like v2.RandAugment, which samples the operations once per call.

    Args:
        num_ops: Number of operations, one after the other.
        magnitude: Level of their magnitude, of 30.
        fill: Value outside the image, of all channels or of each.
    """

    def __init__(
        self,
        num_ops: Annotated[int, Field(ge=1, le=100)] = 2,
        magnitude: Level = 9,
        interpolation: Interpolation = "bilinear",
        fill: Value = 0.0,
    ) -> None:
        super().__init__(magnitude, interpolation, fill)
        self.num_ops = num_ops

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(self.num_ops):
            images = super().forward(images)
        return images

    def ranges(self, height: int, width: int) -> dict[str, Range]:
        shift = 150 / 331
        return {
            **dict.fromkeys(("shear_x", "shear_y"), Range(0, 0.3, True)),
            "translate_x": Range(0, shift * width, True),
            "translate_y": Range(0, shift * height, True),
            "rotate": Range(0, 30, True),
            **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), Range(0, 0.9, True)),
            "posterize": Range(8, 4),
            "solarize": Range(1, 0),
        }


class TrivialAugmentWide(RandomOperations):
    """Apply one random operation of random magnitude to each image (Müller & Hutter 2021, arXiv:2103.10158).

    Like v2.TrivialAugmentWide, which samples the operation once per call. Translations are up to 32 pixels in images
    of any size.

    Args:
        fill: Value outside the image, of all channels or of each.
    """

    def __init__(self, interpolation: Interpolation = "bilinear", fill: Value = 0.0) -> None:
        super().__init__(None, interpolation, fill)

    def ranges(self, height: int, width: int) -> dict[str, Range]:
        return {
            **dict.fromkeys(("shear_x", "shear_y"), Range(0, 0.99, True)),
            **dict.fromkeys(("translate_x", "translate_y"), Range(0, 32, True)),
            "rotate": Range(0, 135, True),
            **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), Range(0, 0.99, True)),
            "posterize": Range(8, 2),
            "solarize": Range(1, 0),
        }


def operation_matrices(operation: str, magnitudes: Tensor, height: int, width: int) -> Tensor:
    """Return what maps pixels of the output to pixels of the input, in pixels from the center, (N, 2, 3) float32.

    Args:
        operation: One of GEOMETRIC_OPERATIONS. Shears keep the upper left corner where it is.
        magnitudes: Degrees counterclockwise, pixels, of which decimals are cut off, or slopes, (N,) float32.
    """
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    pixels, radians = magnitudes.trunc(), magnitudes.deg2rad()
    x, y = {
        "shear_x": ([one, magnitudes, magnitudes * (height / 2)], [zero, one, zero]),
        "shear_y": ([one, zero, zero], [magnitudes, one, magnitudes * (width / 2)]),
        "translate_x": ([one, zero, -pixels], [zero, one, zero]),
        "translate_y": ([one, zero, zero], [zero, one, -pixels]),
        "rotate": ([radians.cos(), -radians.sin(), zero], [radians.sin(), radians.cos(), zero]),
    }[operation]
    return torch.stack([torch.stack(x, dim=1), torch.stack(y, dim=1)], dim=1)
