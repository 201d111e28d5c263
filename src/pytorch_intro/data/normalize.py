"""Normalization of uint8 images, and the dataset's mean and standard deviation."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.files import write_atomically
from pytorch_intro.data.dataset import ImageSubset

STATS_CHUNK_BYTES = 2**26  # pixels counted at a time
STATS_SAMPLE = 10_000  # images, where each has to be loaded and decoded


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
        return images.float().mul_(self.scale).add_(self.offset)

    def denormalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W) normalized float to uint8."""
        scale, offset = self.scale.to(images.device), self.offset.to(images.device)
        return ((images.float() - offset) / scale).round().clamp(0, 255).to(torch.uint8)


def resolve_mean_std(
    subset: ImageSubset, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and std as given, computed from the images where None; raise a UserError if some do not fit them."""
    if mean is None or std is None:
        own_mean, own_std = cached_mean_std(subset)
        mean, std = own_mean if mean is None else mean, own_std if std is None else std
    channels = subset.dataset.image_shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise UserError(
                f"data.{name}={list(values)}: the images have {channels} channel(s); give one value per channel, or "
                f"data.{name}=null to compute them"
            )
    return mean, std


def cached_mean_std(subset: ImageSubset) -> tuple[list[float], list[float]]:
    """Return channel_statistics, cached next to the decoded images if they have a folder.

    For a dataset loaded on the fly, 10,000 to 20,000 evenly spaced images are used.
    """
    dataset = subset.dataset
    if dataset.folder is None:
        step = max(1, len(subset) // STATS_SAMPLE) if dataset.storage == "loaded on the fly" else 1
        return channel_statistics(ImageSubset(dataset, subset.indices[::step]))
    rows = hashlib.sha256(subset.indices.numpy().tobytes()).hexdigest()[:16]
    file = dataset.folder / f"statistics-{rows}.json"
    with suppress(OSError, ValueError, KeyError):  # missing or damaged
        statistics = json.loads(file.read_text())
        return statistics["mean"], statistics["std"]
    mean, std = channel_statistics(subset)
    with suppress(OSError):  # the cache of another user is read-only: compute every time
        write_atomically(file, json.dumps({"mean": mean, "std": std}))
    return mean, std


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
