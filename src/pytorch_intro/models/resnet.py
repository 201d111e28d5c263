"""A small residual network."""

from itertools import pairwise

from pydantic import PositiveInt
from torch import Tensor, nn


class ResNet(nn.Module):
    """The residual network for small images of He et al. 2016 (arXiv:1512.03385, section 4.2).

    Three stages with width, 2 width and 4 width channels; the second and third start by halving the resolution. With
    n blocks per stage, the depth is 6n + 2.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        width: PositiveInt = 16,
        blocks_per_stage: PositiveInt = 1,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(image_shape[0], width), nn.ReLU())
        channels = [width] + [width * 2**stage for stage in range(3) for _ in range(blocks_per_stage)]
        blocks = [ResidualBlock(i, o, stride=1 if i == o else 2) for i, o in pairwise(channels)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float to logits (N, num_classes)."""
        return self.head(self.blocks(self.stem(images)))


class ResidualBlock(nn.Module):
    """relu(x + f(x)), where f is two 3x3 convolutions; a 1x1 convolution projects x if the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        same_shape = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same_shape else conv_norm(in_channels, out_channels, 1, stride)
        self.residual = nn.Sequential(
            conv_norm(in_channels, out_channels, 3, stride), nn.ReLU(), conv_norm(out_channels, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return nn.functional.relu(self.shortcut(x) + self.residual(x))


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a padded convolution and a batch norm, which includes a bias."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )
