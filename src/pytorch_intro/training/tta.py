"""Test-time augmentation (TTA), and the network of a finished run without Lightning, whose import takes seconds."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

Shift = Annotated[int, Field(ge=0, le=8)]


class TTANetwork(nn.Module):
    """A trained network that returns the mean logits over all views of an image, as Classifier does in eval mode.

    Args:
        tta_flip, tta_shift: As in Classifier.
        temperature: Divisor of the logits.
    """

    def __init__(self, network: nn.Module, tta_flip: bool | None, tta_shift: int, temperature: float) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.tta_flip = tta_flip
        self.tta_shift = tta_shift
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes) of images (N, C, H, W) float; their softmax is what predict gives."""
        return self.tta_logits(images).mean(dim=0) / self.temperature

    def tta_logits(self, images: Tensor) -> Tensor:
        return tta_logits(self.network, images, self.tta_flip, self.tta_shift)


def tta_logits(network: nn.Module, images: Tensor, flip: bool | None, shift: int) -> Tensor:
    """Return the logits of each view of the images: (views, N, num_classes) float32; the first is the image."""
    views = tta_views(images, flip, shift)
    if torch.compiler.is_exporting():  # one call: the graph would have a copy of the network per view
        return network(torch.cat(views)).float().unflatten(0, (len(views), -1))
    # float32 before the mean, which would otherwise round to bfloat16 once more. Copies: with CUDA graphs
    # (compile=reduce-overhead), each call overwrites the logits of the one before.
    return torch.stack([network(view).to(torch.float32, copy=True) for view in views])


def tta_views(images: Tensor, flip: bool | None, shift: int) -> list[Tensor]:
    """Return each shift of images (N, C, H, W) by up to `shift` pixels, the first by none, and maybe its flip.

    The border is replicated. Features, (N, D), have one view.
    """
    if images.ndim == 2:
        return [images]
    height, width = images.shape[-2:]
    padded = pad(images, [shift] * 4, mode="replicate")
    offsets = sorted(range(2 * shift + 1), key=lambda offset: abs(offset - shift))  # the center first: no shift
    views = [padded[..., top : top + height, left : left + width] for top in offsets for left in offsets]
    return [view for shifted in views for view in (shifted, shifted.flip(-1))] if flip else views
