"""From bytes to floats of about mean 0 and standard deviation 1; and the constants that this takes."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from pytorch_intro.atomic import atomic_write
from pytorch_intro.dataset import LiveDataset, Part
from pytorch_intro.errors import UserError

CHUNK = 2**26  # bytes that are counted at a time
ENOUGH = 10_000  # images, where each has to be made for it


class Normalize(nn.Module):
    """(x / 255 - mean) / std for each channel, as one multiplication and one addition.

    Args:
        mean, std: Of each channel, for pixels scaled to [0, 1].
    """

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

    def undone(self, images: Tensor) -> Tensor:
        """What was normalised, (N, C, H, W) float, as uint8 again."""
        scale, offset = self.scale.to(images.device), self.offset.to(images.device)
        return ((images.float() - offset) / scale).round().clamp(0, 255).to(torch.uint8)


def suitable_constants(
    images: Part, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation as they are given, or else those of the training images.

    Raises:
        UserError: if there is not one for each channel.
    """
    if mean is None or std is None:
        own_mean, own_std = kept_statistics(images)
        mean, std = own_mean if mean is None else mean, own_std if std is None else std
    channels = images.dataset.image_shape[0]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise UserError(
                f"data.{name}={list(values)}: the images have {channels} channel(s); give one value each, or null to "
                "have them computed"
            )
    return mean, std


def kept_statistics(images: Part) -> tuple[list[float], list[float]]:
    """channel_statistics, kept beside decoded images if there is a folder of them, and read there the next time.

    Of a data set that is asked anew for each image, 10,000 to 20,000 are looked at, evenly spread.
    """
    dataset = images.dataset
    if isinstance(dataset, LiveDataset):
        return channel_statistics(Part(dataset, images.indices[:: max(1, len(images) // ENOUGH)]))
    if dataset.folder is None:
        return channel_statistics(images)
    rows = hashlib.sha256(images.indices.numpy().tobytes()).hexdigest()[:16]
    file = dataset.folder / f"statistics-{rows}.json"
    with suppress(OSError, ValueError, KeyError):  # there is none, or it is damaged
        statistics = json.loads(file.read_text())
        return statistics["mean"], statistics["std"]
    mean, std = channel_statistics(images)
    with suppress(OSError), atomic_write(file) as kept:  # of another user's cache: computed every time
        kept.write(json.dumps({"mean": mean, "std": std}).encode())
    return mean, std


def channel_statistics(images: Part) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels, scaled to [0, 1].

    Whole numbers are counted, so that the result does not depend on the order or on the machine.
    """
    dataset = images.dataset
    counts = torch.zeros(dataset.image_shape[0], 256, dtype=torch.int64)
    size = max(1, CHUNK // torch.Size(dataset.image_shape).numel())
    for start in range(0, len(images), size):
        batch, _ = dataset.__getitems__(images.indices[start : start + size])
        for channel, count in enumerate(counts):
            count += torch.bincount(batch[:, channel].flatten(), minlength=256)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    level = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ level
    std = (share @ level**2 - mean**2).clamp(min=0).sqrt()
    return mean.tolist(), [value or 1.0 for value in std.tolist()]  # a channel that never changes stays 0
