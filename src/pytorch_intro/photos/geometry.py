"""Random flips, rotations and other affine transforms; see data/augment/basic.py for shapes and dtypes."""

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from pytorch_intro.data.augment.basic import Share, fill_levels, flip, map_chunks
from pytorch_intro.data.augment.erasing import Value

Interpolation = Literal["nearest", "bilinear"]
Degrees = Annotated[float, Field(ge=0, le=180)]
Slant = Annotated[float, Field(ge=0, lt=90)]  # degrees
Zoom = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RandomVerticalFlip(nn.Module):
    """Flip each image upside down with probability p."""

    def __init__(self, p: Share = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, images: Tensor) -> Tensor:
        return flip(images, self.sample(images), dim=-2)

    def sample(self, images: Tensor) -> Tensor:
        """Sample which images are flipped, (N,) bool."""
        return torch.rand(len(images), device=images.device) < self.p


class Affine(NamedTuple):
    """One affine transform per image: degrees clockwise (N,), pixels (N, 2), factor (N,) and degrees (N, 2), float32.

    Translations and shears are along x, then along y.
    """

    angles: Tensor
    translations: Tensor
    scales: Tensor
    shears: Tensor


class RandomAffine(nn.Module):
    """Rotate, translate, scale and shear each image around its center, at random.

    Like v2.RandomAffine, which samples one transform per call. All values are uniform.

    Args:
        degrees: Limit of the angle, in either direction.
        translate: Limits of the shift to either side, as shares of width and height.
        scale: Limits of the factor that enlarges the image.
        shear: Limits of the shear along x and along y, in degrees in either direction.
        fill: Value outside the image, of all channels or of each.
    """

    def __init__(
        self,
        degrees: Degrees,
        translate: tuple[Share, Share] = (0.0, 0.0),
        scale: tuple[Zoom, Zoom] = (1.0, 1.0),
        shear: tuple[Slant, Slant] = (0.0, 0.0),
        interpolation: Interpolation = "bilinear",
        fill: Value = 0.0,
    ) -> None:
        super().__init__()
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.interpolation: Interpolation = interpolation
        self.fill = fill

    def forward(self, images: Tensor) -> Tensor:
        return warp(images, inverse_matrices(self.sample(images)), self.interpolation, self.fill)

    def sample(self, images: Tensor) -> Affine:
        """Sample one transform per image; translations are whole pixels."""
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale=[{self.scale[0]}, {self.scale[1]}]: lower limit above upper limit")
        height, width = images.shape[-2:]
        angles, x, y, scales, x_shears, y_shears = torch.empty(6, len(images), device=images.device)
        angles.uniform_(-self.degrees, self.degrees)
        for values, limit in (
            (x, self.translate[0] * width),
            (y, self.translate[1] * height),
            (x_shears, self.shear[0]),
            (y_shears, self.shear[1]),
        ):
            values.uniform_(-limit, limit)
        scales.uniform_(*self.scale)
        return Affine(angles, torch.stack([x, y], dim=1).round(), scales, torch.stack([x_shears, y_shears], dim=1))


def inverse_matrices(affine: Affine) -> Tensor:
    """Return the matrices that map pixels of the output to pixels of the input, (N, 2, 3) float32.

    Coordinates are in pixels from the center. The transform is a shear along x, then along y, a scaling, a rotation
    and a translation.
    """
    angle, shear = affine.angles.deg2rad(), affine.shears.deg2rad()
    tan_x, sheared_angle, cos_y = shear[:, 0].tan(), angle - shear[:, 1], shear[:, 1].cos()
    a, c = sheared_angle.cos() / cos_y, sheared_angle.sin() / cos_y
    b, d = -(a * tan_x + angle.sin()), angle.cos() - c * tan_x
    linear = torch.stack([torch.stack([d, -b], dim=1), torch.stack([-c, a], dim=1)], dim=1)
    linear = linear / affine.scales[:, None, None]
    return torch.cat([linear, -(linear * affine.translations[:, None, :]).sum(dim=2, keepdim=True)], dim=2)


def warp(images: Tensor, matrices: Tensor, interpolation: Interpolation, fill: float | list[float]) -> Tensor:
    """Apply v2.functional.affine with one inverse matrix per image, (N, 2, 3) float32.

    Where bilinear interpolation mixes border pixels with `fill`, torchvision adds it with the square of its weight.
    """
    height, width = images.shape[-2:]
    levels = fill_levels(images, fill, "fill").float()
    x, y = grid_pixels(width, images), grid_pixels(height, images)
    # grid_sample's coordinates are in half sides. No matrix product: TF32 would move pixels by a tenth of one.
    x_matrix, y_matrix = (2 / width) * matrices[:, 0], (2 / height) * matrices[:, 1]
    x_matrix, y_matrix = x_matrix[:, :, None, None], y_matrix[:, :, None, None]

    def sample(images: Tensor, x_matrix: Tensor, y_matrix: Tensor) -> Tensor:
        grids = [m[:, 0] * x + (m[:, 1] * y[:, None] + m[:, 2]) for m in (x_matrix, y_matrix)]  # (N, H, W) each
        # grid_sample mixes in zeros outside the image: fill, as differences from it.
        values = images.float().sub_(levels) if fill else images.float()
        values = grid_sample(values, torch.stack(grids, dim=1).movedim(1, 3), interpolation, align_corners=False)
        return (values.add_(levels) if fill else values).round_().short().byte()

    return map_chunks(sample, images, x_matrix, y_matrix)


def grid_pixels(size: int, images: Tensor) -> Tensor:
    """Return the pixels' distances from the center, (size,) float32."""
    return torch.arange(size, dtype=torch.float32, device=images.device) - (size - 1) / 2
