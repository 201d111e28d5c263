"""Build the augmentation and MixUp/CutMix; DataModule.on_after_batch_transfer applies them to each batch."""

from collections.abc import Mapping

import torch
from torch import nn
from torchvision.transforms import v2

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.augment.basic import RandomHorizontalFlip


class Augmentation(nn.Sequential):
    """Modules, by their names in conf/data/augment, applied in order to batches (N, C, H, W) uint8."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(*modules.values())

    @property
    def has_hflip(self) -> bool:
        """Whether mirror images count as the same class."""
        return any(isinstance(module, RandomHorizontalFlip) and module.p > 0 for module in self)

    def validate_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raise a UserError if images of this shape (C, H, W) are rejected, or change their shape or dtype."""
        black = torch.zeros(2, *image_shape, dtype=torch.uint8)
        with torch.random.fork_rng(devices=[]):
            augmented = self(black)
        if augmented.shape != black.shape or augmented.dtype != black.dtype:
            raise UserError(
                f"data.augment: changes images from {tuple(black.shape)} {black.dtype} to {tuple(augmented.shape)} "
                f"{augmented.dtype}; return the same shape and dtype"
            )


def build_mixup_cutmix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> nn.Module | None:
    """Build torchvision's MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019), or a random choice per batch."""
    alphas: dict[type[nn.Module], float] = {v2.MixUp: mixup_alpha, v2.CutMix: cutmix_alpha}
    chosen = [mix(num_classes=num_classes, alpha=alpha) for mix, alpha in alphas.items() if alpha]
    return v2.RandomChoice(chosen) if chosen else None
