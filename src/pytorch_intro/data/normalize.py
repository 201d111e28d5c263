"""Normalization of uint8 images, and the dataset's mean and standard deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.dataset import ImageSubset

STATS_SAMPLE = 10_000  # images; enough for two digits, and each may have to be decoded
STATS_CHUNK_BYTES = 2**26  # pixels counted at a time


class Normalize(nn.Module):
    """(x / 255 - mean) / std per channel, for pixels x from 0 to 255, as one multiplication and one addition."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        mean_, std_ = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        self.register_buffer("scale", 1 / (255 * std_), persistent=False)
        self.register_buffer("offset", -mean_ / std_, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to float32."""
        if self.scale.device != images.device:
            self.to(images.device)  # once, with the first batch
        return images.to(torch.float32, memory_format=torch.contiguous_format).mul_(self.scale).add_(self.offset)

    def denormalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalized float to uint8."""
        scale, offset = self.scale.to(images.device), self.offset.to(images.device)
        return ((images.float() - offset) / scale).round().clamp(0, 255).to(torch.uint8)


def resolve_mean_std(
    subset: ImageSubset, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and std as given, computed from up to STATS_SAMPLE random images where None; check their number."""
    if mean is None or std is None:
        rows = torch.randperm(len(subset), generator=torch.Generator().manual_seed(0))[:STATS_SAMPLE]
        own_mean, own_std = channel_statistics(subset.take(rows.sort().values))
        mean, std = own_mean if mean is None else mean, own_std if std is None else std
    channels = subset.dataset.image_shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise UserError(
                f"data.{name}={list(values)}: the images have {channels} channel(s); give one value per channel, or "
                f"data.{name}=null to compute them"
            )
    return mean, std


def repeat_channels(values: Sequence[float], channels: int) -> list[float]:
    """Return a mean or std per channel for another number of channels: repeated, or the average for one channel."""
    if channels == 1:
        return [sum(values) / len(values)]
    return [values[channel % len(values)] for channel in range(channels)]


def channel_statistics(subset: ImageSubset) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over all pixels, scaled to [0, 1].

    Computed from integer histograms, so that the result depends neither on the order nor on the machine.
    """
    shape = torch.Size(subset.dataset.image_shape)
    counts = torch.zeros(shape[0], 256, dtype=torch.int64)
    for rows in subset.indices.split(max(1, STATS_CHUNK_BYTES // shape.numel())):
        batch, _ = subset.dataset.__getitems__(rows)
        for channel, count in enumerate(counts):
            count += torch.bincount(batch[:, channel].flatten(), minlength=256)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    level = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ level
    std = (share @ level**2 - mean**2).clamp(min=0).sqrt()
    return mean.tolist(), [value or 1.0 for value in std.tolist()]  # 1 for a constant channel, which stays 0
