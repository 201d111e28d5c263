"""Augmentations of photos compared with torchvision's, which take one image at a time."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, time_alternately
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.augment.basic import RandomHorizontalFlip
from pytorch_intro.data.augment.crops import RandomResizedCrop
from pytorch_intro.photos.color import ColorJitter, RandomGrayscale
from pytorch_intro.photos.filters import RandomGaussianBlur
from pytorch_intro.photos.geometry import RandomAffine, RandomVerticalFlip
from pytorch_intro.photos.policies import RandAugment, TrivialAugmentWide


def measure_photo_augmentations(
    context: BenchmarkContext, rounds: PositiveInt, batch_size: PositiveInt, image_size: PositiveInt
) -> Figures:
    """Time the augmentations and policies of the config by name; return microseconds per image of each.

    torchvision's transforms take one image at a time on the CPU, as in a DataLoader without workers.

    Args:
        rounds: Number of rounds of both.
        batch_size: Number of random RGB images at once.
        image_size: Their side in pixels.
    """
    images = torch.randint(0, 256, (batch_size, 3, image_size, image_size), dtype=torch.uint8)
    disable_malloc_trim()  # as in training, for both
    figures: Figures = {}
    for name, node in context.config.augmentations.items():
        modules: Mapping[str, nn.Module] = instantiate(node, f"augmentations.{name}")
        reference = v2.Compose([torchvision_transform(module, image_size) for module in modules.values()])
        variants: dict[str, Callable[[], object]] = {
            "torchvision": partial(transform_each, reference, images),
            "this project": partial(nn.Sequential(*modules.values()), images.to(context.device)),
        }
        time_alternately(variants, 1)  # a warm-up
        seconds = time_alternately(variants, rounds)
        print(f"{name}, {image_size} x {image_size}, batches of {batch_size}, each image")
        micros = {variant: [s / batch_size * 1e6 for s in some] for variant, some in seconds.items()}
        figures[name] = print_comparison("microseconds", "us", **micros)
    return figures


def transform_each(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in images])


def torchvision_transform(module: nn.Module, image_size: int) -> nn.Module:
    """Return torchvision's transform with the settings of a module."""
    match module:
        case RandomResizedCrop():
            return v2.RandomResizedCrop(image_size, module.scale, module.ratio)
        case RandomHorizontalFlip():
            return v2.RandomHorizontalFlip(module.p)
        case RandomVerticalFlip():
            return v2.RandomVerticalFlip(module.p)
        case ColorJitter():
            return v2.ColorJitter(**module.strengths)
        case RandomGrayscale():
            return v2.RandomGrayscale(module.p)
        case RandomGaussianBlur():
            return v2.RandomApply([v2.GaussianBlur(module.kernel_size, module.sigma)], module.p)
        case RandomAffine():
            shear = [sign * limit for limit in module.shear for sign in (-1, 1)]
            settings: dict[str, Any] = {"translate": module.translate, "scale": module.scale, "shear": shear}
            return v2.RandomAffine(module.degrees, **settings, interpolation=InterpolationMode(module.interpolation))
        case RandAugment():
            mode = InterpolationMode(module.interpolation)
            return v2.RandAugment(module.num_ops, module.level or 0, interpolation=mode)
        case TrivialAugmentWide():
            return v2.TrivialAugmentWide(interpolation=InterpolationMode(module.interpolation))
    raise TypeError(f"{type(module).__name__}: torchvision has no such transform")
