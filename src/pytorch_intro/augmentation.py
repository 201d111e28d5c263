"""What a data set's training batches go through: random changes of images, and mixtures of two of them."""

from collections.abc import Mapping

import torch
from torch import nn
from torchvision.transforms import v2

from pytorch_intro.augment import AlternatingFlip, RandomHorizontalFlip
from pytorch_intro.errors import UserError


class Augmentation(nn.Sequential):
    """Modules, applied in their order to batches, (N, C, H, W) uint8 to the same.

    Args:
        modules: By the names that they have in conf/data/augment.

    Raises:
        UserError: if an AlternatingFlip is not the first, where the pixels that it draws by are unaltered.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(*modules.values())
        if any(isinstance(module, AlternatingFlip) for module in list(self)[1:]):
            raise UserError(f"data.augment: alternating_flip has to be the first of {', '.join(modules)}")

    @property
    def flips(self) -> bool:
        """Whether it takes mirror images for images of the same class."""
        return any(
            isinstance(module, AlternatingFlip) or (isinstance(module, RandomHorizontalFlip) and module.p > 0)
            for module in self
        )

    def set_epoch(self, epoch: int) -> None:
        """Tell those that look at it which epoch this is, from 0."""
        for module in self:
            if isinstance(module, AlternatingFlip):
                module.epoch = epoch

    def try_on(self, image_shape: tuple[int, int, int]) -> None:
        """Find out on black images, before the training, whether it goes with this shape, (C, H, W).

        Raises:
            UserError: if it makes others of them; or of a module, which does not take them.
        """
        black = torch.zeros(2, *image_shape, dtype=torch.uint8)
        with torch.random.fork_rng(devices=[]):
            augmented = self(black)
        if augmented.shape != black.shape or augmented.dtype != black.dtype:
            raise UserError(
                f"data.augment: of images {tuple(black.shape)} {black.dtype} it makes {tuple(augmented.shape)} "
                f"{augmented.dtype}; both have to be the same"
            )


def mix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> nn.Module | None:
    """torchvision's MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019), or one of them for each batch."""
    chosen: list[nn.Module] = []
    if mixup_alpha:
        chosen.append(v2.MixUp(num_classes=num_classes, alpha=mixup_alpha))
    if cutmix_alpha:
        chosen.append(v2.CutMix(num_classes=num_classes, alpha=cutmix_alpha))
    return v2.RandomChoice(chosen) if chosen else None
