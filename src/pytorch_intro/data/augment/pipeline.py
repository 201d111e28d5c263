"""Build the augmentation and MixUp/CutMix; DataModule.on_after_batch_transfer applies them to each batch."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.data.augment.basic import RandomHorizontalFlip
from pytorch_intro.data.augment.crops import RandomResizedCrop


class Augmentation(nn.Sequential):
    """Modules, by their names in conf/data/augment, applied in order to batches (N, C, H, W) uint8."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(*modules.values())
        self.names = list(modules)

    def forward(self, images: Tensor) -> Tensor:
        for module in self:
            # A cache has channels last, which is faster for the crop alone.
            images = module(images if isinstance(module, RandomResizedCrop) else images.contiguous())
        return images

    @property
    def has_hflip(self) -> bool:
        """Whether mirror images count as the same class."""
        return any(isinstance(module, RandomHorizontalFlip) and module.p > 0 for module in self)

    def set_size(self, size: tuple[int, int]) -> None:
        """Set the network's input size (H, W) in the random resized crops that have none."""
        for module in self.modules():
            if isinstance(module, RandomResizedCrop) and module.size is None:
                module.size = size

    def take_crop(self) -> RandomResizedCrop | None:
        """Remove and return the first random resized crop, if any."""
        for number, module in enumerate(self):
            if isinstance(module, RandomResizedCrop):
                del self[number], self.names[number]
                return module
        return None

    def validate_shape(self, image_shape: tuple[int, int, int], size: tuple[int, int] | None = None) -> None:
        """Raise a UserError if a module rejects images of this shape (C, H, W), or their dtype or channels change.

        Args:
            size: Smallest (H, W) after augmentation: larger images are center-cropped. None: that of image_shape.
        """
        black = torch.zeros(2, *image_shape, dtype=torch.uint8)
        augmented = black
        with torch.random.fork_rng(devices=[]):
            for name, module in zip(self.names, self, strict=True):
                try:
                    augmented = module(augmented)
                except Exception as error:  # any kind: it may be the user's module
                    problem = f"data.augment.{name}: {first_lines(error)}"
                    raise UserError(f"{problem}; change its settings, or remove it from data/augment") from error
                if not isinstance(augmented, Tensor):
                    kind = type(augmented).__name__
                    raise UserError(f"data.augment.{name}: returns a {kind}, expected images (N, C, H, W); return them")
        height, width = size or image_shape[1:]
        is_large = augmented.ndim == 4 and augmented.shape[2] >= height and augmented.shape[3] >= width
        if augmented.shape[:2] != black.shape[:2] or augmented.dtype != black.dtype or not is_large:
            raise UserError(
                f"data.augment: changes images from {tuple(black.shape)} {black.dtype} to {tuple(augmented.shape)} "
                f"{augmented.dtype}; return the same shape and dtype, or another size of at least {height} x {width}"
            )


def build_mixup_cutmix(num_classes: int, mixup_alpha: float, cutmix_alpha: float) -> nn.Module | None:
    """Build torchvision's MixUp (Zhang et al. 2018), CutMix (Yun et al. 2019), or a random choice per batch."""
    alphas: dict[type[nn.Module], float] = {v2.MixUp: mixup_alpha, v2.CutMix: cutmix_alpha}
    # torchvision's samplers fail with integers.
    chosen = [mix(num_classes=num_classes, alpha=float(alpha)) for mix, alpha in alphas.items() if alpha]
    return v2.RandomChoice(chosen) if chosen else None
