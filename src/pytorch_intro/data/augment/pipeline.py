"""Build the augmentation and MixUp/CutMix; DataModule.on_after_batch_transfer applies them to each batch."""

from collections.abc import Mapping

import torch
from torch import nn
from torchvision.transforms import v2

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.data.augment.basic import RandomHorizontalFlip


class Augmentation(nn.Sequential):
    """Modules, by their names in conf/data/augment, applied in order to batches (N, C, H, W) uint8."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(*modules.values())
        self.names = list(modules)

    @property
    def has_hflip(self) -> bool:
        """Whether mirror images count as the same class."""
        return any(isinstance(module, RandomHorizontalFlip) and module.p > 0 for module in self)

    def validate_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raise a UserError if a module rejects images of this shape (C, H, W), or all change their shape or dtype."""
        black = torch.zeros(2, *image_shape, dtype=torch.uint8)
        augmented = black
        with torch.random.fork_rng(devices=[]):
            for name, module in zip(self.names, self, strict=True):
                try:
                    augmented = module(augmented)
                except Exception as error:  # any kind: it may be the user's module
                    problem = f"data.augment.{name}: {first_lines(error)}"
                    raise UserError(f"{problem}; change its settings, or remove it from data/augment") from error
        if augmented.shape != black.shape or augmented.dtype != black.dtype:
            raise UserError(
                f"data.augment: changes images from {tuple(black.shape)} {black.dtype} to {tuple(augmented.shape)} "
                f"{augmented.dtype}; return the same shape and dtype"
            )


def build_mixup_cutmix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> nn.Module | None:
    """Build torchvision's MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019), or a random choice per batch."""
    alphas: dict[type[nn.Module], float] = {v2.MixUp: mixup_alpha, v2.CutMix: cutmix_alpha}
    # torchvision's samplers fail with integers.
    chosen = [mix(num_classes=num_classes, alpha=float(alpha)) for mix, alpha in alphas.items() if alpha]
    return v2.RandomChoice(chosen) if chosen else None
