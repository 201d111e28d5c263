"""Random blur, and sharpness; see data/augment/basic.py for shapes and dtypes."""

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from pytorch_intro.data.augment.basic import Share, map_chunks, to_uint8
from pytorch_intro.photos.groups import Groups, apply_by_group, sample_groups

Sigma = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RandomGaussianBlur(nn.Module):
    """Blur each image with probability p, with a random standard deviation.

    Like v2.RandomApply([v2.GaussianBlur(kernel_size, sigma)], p), which samples once per call.

    Args:
        kernel_size: Odd number of pixels that are averaged in each direction.
        sigma: Limits of the standard deviation, in pixels.
    """

    def __init__(self, p: Share = 0.5, kernel_size: PositiveInt = 9, sigma: tuple[Sigma, Sigma] = (0.1, 2.0)) -> None:
        super().__init__()
        self.p = p
        self.kernel_size = kernel_size
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        groups, sigmas = self.sample(images)
        return apply_by_group(images, groups, [lambda some: gaussian_blur(some, self.kernel_size, sigmas), None])

    def sample(self, images: Tensor) -> tuple[Groups, Tensor]:
        """Sample the images that are blurred, their number n, and their standard deviations, (n,) float32."""
        groups = sample_groups(images, [self.p, 1 - self.p])
        return groups, torch.empty(groups.sizes[0], device=images.device).uniform_(*self.sigma)

    def check(self, images: Tensor) -> None:
        low, high = self.sigma
        if low > high:
            raise ValueError(f"sigma=[{low}, {high}]: lower limit above upper limit")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size}: not an odd number")
        height, width = images.shape[-2:]
        longest = 2 * min(height, width) - 1  # reflection would lack pixels
        if self.kernel_size > longest:
            raise ValueError(f"kernel_size={self.kernel_size}: {height} x {width} pixels allow at most {longest}")


def gaussian_blur(images: Tensor, kernel_size: int, sigmas: Tensor) -> Tensor:
    """Apply v2.functional.gaussian_blur with one standard deviation per image, (N,) float32."""
    height, width = images.shape[-2:]
    radius = kernel_size // 2
    # torchvision's spacing of a kernel's pixels makes it exp(-(i / sigma)^2 / 2) for i in [-radius, radius].
    places = torch.arange(-radius, radius + 1, device=images.device)
    kernels = (-0.5 * (places / sigmas[:, None]) ** 2).softmax(dim=1)[:, :, None, None, None]

    def blur(images: Tensor, kernels: Tensor) -> Tensor:
        pixels = pad(images, [radius] * 4, mode="reflect").float()
        for dim, size in ((2, height), (3, width)):
            weighted = pixels.narrow(dim, 0, size) * kernels[:, 0]
            for place in range(1, kernel_size):
                weighted.addcmul_(pixels.narrow(dim, place, size), kernels[:, place])
            pixels = weighted
        return pixels.round_().short().byte()

    return map_chunks(blur, images, kernels)


def adjust_sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Apply v2.functional.adjust_sharpness with one factor per image, (N,) float32."""
    if min(images.shape[-2:]) <= 2:
        return images

    def adjust(images: Tensor, factors: Tensor) -> Tensor:
        levels = images.short()
        rows = levels[:, :, :-2].add(levels[:, :, 1:-1]).add_(levels[:, :, 2:])
        sums = rows[..., :-2].add(rows[..., 1:-1]).add_(rows[..., 2:])
        # The average of 3 x 3 pixels with five times the weight on the middle one.
        smooth = sums.add_(levels[:, :, 1:-1, 1:-1], alpha=4).float().mul_(1 / 13).round_()
        pixels = images.float()
        inner = pixels[:, :, 1:-1, 1:-1]
        inner.add_(smooth.sub_(inner).mul_(1 - factors[:, None, None, None]))
        return to_uint8(pixels)

    return map_chunks(adjust, images, factors)
