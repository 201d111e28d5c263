"""A convolutional network."""

import math

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear


class CNN(nn.Module):
    """3x3 convolutions, each with half the resolution and twice the channels of the one before.

    The last one ends in global max pooling or, with `features`, is one over the whole map: with a ninth of the work it
    also knows where in the image something is, which suits centered objects.

    Pooling comes before batch norm, as in airbench (Jordan 2024, arXiv:2404.00498): nearly the same function for a
    quarter of the work of the norm. Residual convolutions are added at the two lowest resolutions, where they are
    cheapest.

    Args:
        image_shape: (C, H, W); H and W are at least 2**poolings.
        width: Channels of the first convolution; also sets those of the later ones if cosine_stem replaces the first.
        poolings: Number of poolings; the number of convolutions is one more.
        residuals: Number of residual convolutions after each of the last two poolings.
        cosine_stem: Whether CosineStem replaces the first convolution and pooling.
        features: Channels of a last convolution over the whole map, max-pooled to 3 x 3 if it is larger; None: a 3x3
            convolution to twice the channels, and global max pooling.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        width: PositiveInt = 16,
        poolings: PositiveInt = 3,
        residuals: NonNegativeInt = 0,
        cosine_stem: bool = False,
        features: PositiveInt | None = None,
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
        if features is None:
            features = 2 * in_channels
            layers += [*convolution(in_channels, features, nn.Identity()), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
        else:
            sides = tuple(max(1, side // 2**poolings) for side in image_shape[1:])
            size = (min(3, sides[0]), min(3, sides[1]))
            pool = nn.Identity() if size == sides else nn.AdaptiveMaxPool2d(size)
            layers += [pool, FullConvolution(in_channels, features, size), nn.BatchNorm1d(features), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float to logits (N, num_classes)."""
        return self.layers(images)


class CosineStem(nn.Module):
    """A fixed cosine transform of 4 x 4 patches with stride 2: relu of the components and of their negatives.

    It has no parameters, so that the backward pass skips the highest resolution. Airbench (Jordan 2024,
    arXiv:2404.00498) starts with the principal components of training patches; those of natural images are close to
    the cosine transform (Ahmed et al. 1974), and the batch norm gives them equal variance.
    """

    components = 32  # per channel: 16 components and their negatives

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        index = torch.arange(4.0)
        waves = torch.cos(math.pi / 4 * (index + 0.5) * index[:, None])  # DCT-II (order, pixel)
        waves /= waves.norm(dim=1, keepdim=True)
        filters = torch.einsum("ay,bx->abyx", waves, waves).reshape(16, 1, 4, 4)
        self.register_buffer("filters", filters.repeat(in_channels, 1, 1, 1), persistent=False)
        self.norm = nn.BatchNorm2d(16 * in_channels, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 32 C, H / 2, W / 2), both float."""
        filters = self.get_buffer("filters")
        x = self.norm(conv2d(images, filters, stride=2, padding=1, groups=images.shape[1]))
        return torch.cat([x, -x], dim=1).relu()


class Residual(nn.Module):
    """x + f(x), where f is one convolution (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolution(channels, channels, nn.Identity()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.layers(x)


class FullConvolution(nn.Conv2d):
    """A convolution over the whole map, computed as one matrix product.

    On the CPU this is several times as fast as Conv2d. The weights have the shape of filters, so that Muon takes them
    for what they are.
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__(in_channels, out_channels, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, *size) to (N, out_channels), both float."""
        return linear(x.permute(0, 2, 3, 1).flatten(1), self.weight.permute(0, 2, 3, 1).flatten(1))  # no copies


def convolution(in_channels: int, out_channels: int, pool: nn.Module) -> list[nn.Module]:
    """Return convolution, pooling, batch norm (which includes a bias) and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return [conv, pool, nn.BatchNorm2d(out_channels), nn.ReLU()]
