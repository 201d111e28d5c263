"""Layers that several networks share."""

from torch import nn


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the resolution (at stride 1) and a batch norm, which takes the place of its bias."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )
