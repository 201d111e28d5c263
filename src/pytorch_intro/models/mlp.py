"""A multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import PositiveInt
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers on flattened images, with ReLU in between.

    The default is the network of PyTorch's quickstart tutorial.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, hidden_features: Sequence[PositiveInt] = (512, 512)
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        features = [channels * height * width, *hidden_features]
        hidden = [nn.Sequential(nn.Linear(i, o), nn.ReLU()) for i, o in pairwise(features)]
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(features[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float to logits (N, num_classes)."""
        return self.layers(images)
