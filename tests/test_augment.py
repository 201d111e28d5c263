"""Augmentation draws for each sample, and does to it what torchvision does."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from pytorch_intro.augment import RandomHorizontalFlip


def test_each_image_is_flipped_as_torchvision_flips_it_or_left_alone(images: Tensor) -> None:
    torch.manual_seed(0)
    flipped = RandomHorizontalFlip(0.5)(images)
    changed = [not torch.equal(after, before) for after, before in zip(flipped, images, strict=True)]
    assert 0 < sum(changed) < len(images)
    for after, before, was_changed in zip(flipped, images, changed, strict=True):
        assert torch.equal(after, functional.horizontal_flip(before) if was_changed else before)


def test_half_of_many_images_are_flipped() -> None:
    torch.manual_seed(0)
    ramps = torch.arange(4.0).expand(10_000, 1, 1, 4)
    share = (RandomHorizontalFlip(0.5)(ramps)[:, 0, 0, 0] == 3).float().mean()
    assert abs(share - 0.5) < 0.02


def test_dtype_and_range_stay(images: Tensor) -> None:
    for dtype in (torch.uint8, torch.float32, torch.bfloat16):
        assert RandomHorizontalFlip()(images.to(dtype)).dtype == dtype


def test_the_same_seed_flips_the_same_images(images: Tensor) -> None:
    def draw() -> Tensor:
        torch.manual_seed(3)
        return RandomHorizontalFlip()(images)

    assert torch.equal(draw(), draw())
