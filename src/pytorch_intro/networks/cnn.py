"""A small convolutional network."""

from pydantic import PositiveInt
from torch import Tensor, nn

from pytorch_intro.networks.layers import conv_norm


class CNN(nn.Module):
    """Four convolutions at falling resolution, each with batch norm and ReLU, then the maximum over all places.

    The first convolution halves the resolution at once: on small images that costs little accuracy, and the layers
    behind it have a quarter of the work.

    Args:
        image_shape: (C, H, W); H and W of 4 or more.
        num_classes: Number of logits.
        width: Channels of the first layer; the others have 2 and 4 times as many.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: PositiveInt = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm(image_shape[0], width, kernel_size=4, stride=2), nn.ReLU(),
            conv_norm(width, 2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            conv_norm(2 * width, 4 * width), nn.ReLU(),
            conv_norm(4 * width, 4 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(4 * width, num_classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float to logits (N, num_classes)."""
        return self.layers(images)
