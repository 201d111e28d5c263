"""Antialiased resizing of batches by two matrix products, and the center crop between stored image and network."""

import torch
from torch import Tensor, nn


class CenterCrop(nn.Module):
    """Take the central part of each image, and resize it if it does not have the network's size yet.

    Args:
        size: (H, W) of the network's input.
        crop_pct: Share of the image's height and width to take.
    """

    def __init__(self, size: tuple[int, int], crop_pct: float) -> None:
        super().__init__()
        self.size = size
        self.crop_pct = crop_pct

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to (N, C, *size): uint8, or float32 if resized, with values from 0 to 255."""
        height, width = (max(1, round(self.crop_pct * side)) for side in images.shape[-2:])
        top, left = round((images.shape[-2] - height) / 2), round((images.shape[-1] - width) / 2)
        crops = images[:, :, top : top + height, left : left + width]
        if (height, width) == self.size:
            return crops
        rows, columns = (
            interpolation_weights(
                torch.zeros(1, device=images.device), torch.full((1,), side, device=images.device), side, new_side
            )
            for side, new_side in zip((height, width), self.size, strict=True)
        )
        return resample(crops, rows, columns)


def interpolation_weights(starts: Tensor, lengths: Tensor, side: int, new_side: int) -> Tensor:
    """Return the matrices that resize an interval of each image's side, (N, new_side, side) float32.

    Bilinear and antialiased like torch.nn.functional.interpolate(antialias=True): each new pixel is a mean of pixels of
    its interval, weighted by a triangle whose half width is a pixel, or a new pixel if that is larger.

    Args:
        starts, lengths: Intervals in pixels, (N,).
    """
    starts, lengths = starts[:, None, None], lengths[:, None, None]
    scales = lengths / new_side
    pixels = torch.arange(side, device=starts.device) + 0.5
    centers = starts + (torch.arange(new_side, device=starts.device)[:, None] + 0.5) * scales
    triangles = (1 - (pixels - centers).abs() / scales.clamp(min=1)).clamp(min=0)
    weights = triangles * ((pixels > starts) & (pixels < starts + lengths))
    return weights / weights.sum(dim=2, keepdim=True)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resize images (N, C, H, W) by matrices (N or 1, new H, H) and (N or 1, new W, W); returns float32."""
    return rows[:, None] @ images.float() @ columns[:, None].transpose(2, 3)
