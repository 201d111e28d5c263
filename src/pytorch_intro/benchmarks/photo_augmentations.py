"""Augmentations of photographs compared with torchvision's, which take one image at a time."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, time_alternately
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.config.instantiate import instantiate

BILINEAR = InterpolationMode.BILINEAR


def measure_photo_augmentations(
    context: BenchmarkContext, rounds: PositiveInt, batch_size: PositiveInt, image_size: PositiveInt
) -> Figures:
    """Time each augmentation and each policy of context.config.augmentations; return microseconds per image.

    torchvision's transforms take one image at a time, as in a DataLoader without workers, on the CPU.

    Args:
        rounds: Number of rounds of both.
        batch_size: Number of random RGB images at once.
        image_size: Their side in pixels.
    """
    images = torch.randint(0, 256, (batch_size, 3, image_size, image_size), dtype=torch.uint8)
    batch, figures = images.to(context.device), {}
    disable_malloc_trim()  # as in training
    for name, node in context.config.augmentations.items():
        augmentation: Mapping[str, nn.Module] = instantiate(node, f"augmentations.{name}")
        reference = v2.Compose([torchvision_transform(module, image_size) for module in augmentation.values()])
        variants: dict[str, Callable[[], object]] = {
            "torchvision": partial(transform_each, reference, images),
            "this project": partial(nn.Sequential(*augmentation.values()), batch),
        }
        time_alternately(variants, 1)
        seconds = time_alternately(variants, rounds)
        print(f"{name}, {image_size} x {image_size}, each image")
        micros = {variant: [s / batch_size * 1e6 for s in some] for variant, some in seconds.items()}
        figures[name] = print_comparison("microseconds", "us", **micros)
    return figures


def transform_each(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in images])


def torchvision_transform(module: nn.Module, image_size: int) -> nn.Module:
    """Return torchvision's transform with the settings of one of this project's modules."""
    m: Any = module
    match type(module).__name__:
        case "RandomResizedCrop":
            return v2.RandomResizedCrop(image_size, m.scale, m.ratio)
        case "RandomHorizontalFlip":
            return v2.RandomHorizontalFlip(m.p)
        case "RandomVerticalFlip":
            return v2.RandomVerticalFlip(m.p)
        case "ColorJitter":
            return v2.ColorJitter(**m.strengths)
        case "RandomAffine":
            return v2.RandomAffine(m.degrees, m.translate, m.scale, [-m.shear[0], m.shear[0], -m.shear[1], m.shear[1]])
        case "RandomGrayscale":
            return v2.RandomGrayscale(m.p)
        case "RandomGaussianBlur":
            return v2.RandomApply([v2.GaussianBlur(m.kernel_size, m.sigma)], m.p)
    raise AssertionError
