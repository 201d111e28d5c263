"""A convolutional network."""

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn


class CNN(nn.Module):
    """A pyramid of 3x3 convolutions, the resolution halved and the channels doubled from one to the next.

    The maximum over all places feeds the linear layer. Each convolution is pooled before it is normalised, which
    gives nearly the same network for a quarter of that work (as in airbench, Jordan 2024, arXiv:2404.00498). What is
    added for accuracy is residual convolutions at the two lowest resolutions, where they cost least.

    Args:
        image_shape: (C, H, W); H and W of 8 or more, or of as much as can be halved so often.
        num_classes: Number of logits.
        width: Channels of the first convolution.
        poolings: How often the resolution is halved; there is one convolution more.
        residuals: Residual convolutions after each of the last two poolings.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        width: PositiveInt = 16,
        poolings: PositiveInt = 3,
        residuals: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        in_channels, layers = image_shape[0], []
        for pooling in range(poolings):
            channels = width * 2**pooling
            layers += convolution(in_channels, channels, nn.MaxPool2d(2))
            if pooling >= poolings - 2:
                layers += [Residual(channels) for _ in range(residuals)]
            in_channels = channels
        layers += convolution(in_channels, 2 * in_channels, nn.Identity())
        head = [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2 * in_channels, num_classes)]
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float to logits (N, num_classes)."""
        return self.layers(images)


class Residual(nn.Module):
    """x + f(x), f being one convolution (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolution(channels, channels, nn.Identity()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W), to the same."""
        return x + self.layers(x)


def convolution(in_channels: int, out_channels: int, pool: nn.Module) -> list[nn.Module]:
    """Convolution, pooling, batch norm (which takes the place of a bias), ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return [conv, pool, nn.BatchNorm2d(out_channels), nn.ReLU()]
