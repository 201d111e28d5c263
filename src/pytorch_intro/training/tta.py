"""Test-time augmentation (TTA): the views of an image whose logits are averaged."""

from torch import Tensor
from torch.nn.functional import pad


def tta_views(images: Tensor, flip: bool | None, shift: int) -> list[Tensor]:
    """Return each shift of the images and, optionally, its horizontal flip; the first view is the images themselves.

    Args:
        images: Batch, (N, C, H, W) float.
        flip: Whether to add flipped views.
        shift: Maximum shift in pixels, in each direction; the border is replicated.
    """
    height, width = images.shape[-2:]
    padded = pad(images, [shift] * 4, mode="replicate")
    offsets = sorted(range(2 * shift + 1), key=lambda offset: abs(offset - shift))  # the center first: no shift
    views = [padded[..., top : top + height, left : left + width] for top in offsets for left in offsets]
    return [view for shifted in views for view in (shifted, shifted.flip(-1))] if flip else views
