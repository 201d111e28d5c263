"""A convolutional network."""

import math

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import conv2d


class CNN(nn.Module):
    """A pyramid of 3x3 convolutions, the resolution halved and the channels doubled from one to the next.

    The maximum over all places feeds the linear layer. Each convolution is pooled before it is normalised, which
    gives nearly the same network for a quarter of that work (as in airbench, Jordan 2024, arXiv:2404.00498). What is
    added for accuracy is residual convolutions at the two lowest resolutions, where they cost least.

    Args:
        image_shape: (C, H, W); H and W of 8 or more, or of as much as can be halved so often.
        num_classes: Number of logits.
        width: Channels of the first convolution; the next ones' follow from it, with the stem too.
        poolings: How often the resolution is halved; there is one convolution more.
        residuals: Residual convolutions after each of the last two poolings.
        cosine_stem: Take CosineStem for the first convolution and pooling.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        width: PositiveInt = 16,
        poolings: PositiveInt = 3,
        residuals: NonNegativeInt = 0,
        cosine_stem: bool = False,
    ) -> None:
        super().__init__()
        in_channels, layers = image_shape[0], list[nn.Module]()
        for pooling in range(poolings):
            channels = width * 2**pooling
            if cosine_stem and pooling == 0:
                channels = CosineStem.components * in_channels
                layers.append(CosineStem(in_channels))
            else:
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


class CosineStem(nn.Module):
    """Patches of 4 x 4 pixels, every 2 pixels, as components of the cosine transform and their negatives; ReLU.

    Nothing in it is learned, so that the largest images need no backward pass. Airbench begins with a whitening of
    patches by their principal components (Jordan 2024, arXiv:2404.00498), which need training images; those of
    pictures are nearly the cosine transform's (Ahmed et al. 1974), and the norm gives them the same variance.
    """

    components = 32  # 16, and 16 negatives, a channel

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        place = torch.arange(4.0)
        waves = torch.cos(math.pi / 4 * (place + 0.5) * place[:, None])
        waves /= waves.norm(dim=1, keepdim=True)
        filters = torch.einsum("ay,bx->abyx", waves, waves).reshape(16, 1, 4, 4)
        self.register_buffer("filters", filters.repeat(in_channels, 1, 1, 1), persistent=False)
        self.norm = nn.BatchNorm2d(16 * in_channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 32 C, H / 2, W / 2), both float."""
        filters = self.get_buffer("filters")
        x = self.norm(conv2d(images, filters, stride=2, padding=1, groups=images.shape[1]))
        return torch.cat([x, -x], dim=1).relu()


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
