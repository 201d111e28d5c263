"""The network: images (N, C, H, W) float32 to logits (N, num_classes)."""

from torch import Tensor, nn


class Network(nn.Module):
    """Three blocks of convolutions, then a linear layer."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: int = 32) -> None:
        super().__init__()
        channels, _, _ = image_shape
        self.blocks = nn.Sequential(block(channels, width), block(width, 2 * width), block(2 * width, 4 * width))
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(images).amax(dim=(2, 3)))


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))
