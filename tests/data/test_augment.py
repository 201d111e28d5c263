"""Augmentation samples per image, and changes each image as torchvision does."""

import math
import random
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.validate import check_config
from pytorch_intro.data.augment.basic import (
    RandomBrightnessContrast,
    RandomCrop,
    RandomHorizontalFlip,
    adjust_brightness,
    adjust_contrast,
    gather_crops,
)
from pytorch_intro.data.augment.crops import Boxes, RandomResizedCrop, resized_crop
from pytorch_intro.data.augment.erasing import Cutout, RandomErasing, erase
from pytorch_intro.data.augment.pipeline import Augmentation

MODULES = {
    "flip": RandomHorizontalFlip(),
    "crop": RandomCrop(3),
    "reflecting_crop": RandomCrop(3, padding_mode="reflect"),
    "resized_crop": RandomResizedCrop(),
    "erasing": RandomErasing(),
    "cutout": Cutout(9, value=0.5),
    "brightness_contrast": RandomBrightnessContrast(0.5, 0.5),
}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def random_images(channels: int, count: int = 32, height: int = 20, width: int = 28) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)


@pytest.fixture(params=[1, 3], ids=["gray", "color"])
def batch(request: pytest.FixtureRequest) -> Tensor:
    """Return random images, (32, 1 or 3, 20, 28) uint8."""
    return random_images(request.param)


def assert_alike(images: Tensor, reference: list[Tensor]) -> None:
    """Assert equal dtypes, and values at most 1 apart."""
    torch.testing.assert_close(images, torch.stack(reference), rtol=0, atol=1)


def parameters(*sampled: Tensor) -> list[list[Any]]:
    """Return the sampled parameters, one list per image."""
    return [list(image) for image in zip(*(values.tolist() for values in sampled), strict=True)]


def inside(boxes: Boxes, height: int, width: int) -> list[list[int]]:
    """Return the part of each box that lies within the image."""
    top, left = boxes.top.clamp(min=0), boxes.left.clamp(min=0)
    bottom, right = (boxes.top + boxes.height).clamp(max=height), (boxes.left + boxes.width).clamp(max=width)
    return parameters(top, left, bottom - top, right - left)


@every_module
def test_augmentation_keeps_dtype_and_shape(module: nn.Module, batch: Tensor) -> None:
    changed = module(batch)
    assert (changed.dtype, changed.shape) == (batch.dtype, batch.shape)


@every_module
def test_augmentation_does_not_modify_its_input(module: nn.Module, batch: Tensor) -> None:
    before = batch.clone()
    assert not torch.equal(module(batch), before)
    assert torch.equal(batch, before)


@every_module
def test_augmentation_with_the_same_seed_gives_the_same_images(module: nn.Module, batch: Tensor) -> None:
    def augment(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return module(batch)

    assert torch.equal(augment(3), augment(3))
    assert not torch.equal(augment(3), augment(4))


@every_module
def test_images_of_one_batch_are_augmented_differently(module: nn.Module) -> None:
    """A batch of 32 copies of one image becomes several images."""
    same = random_images(1, count=1).expand(32, -1, -1, -1)
    different = len({tuple(image.flatten().tolist()) for image in module(same)})
    assert different == 2 if isinstance(module, RandomHorizontalFlip) else different > 10


class OnlyMeta(TorchDispatchMode):
    """Fails on a tensor on another device, and on float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, made)):
            if isinstance(tensor, Tensor):
                assert tensor.device.type == "meta", f"{func} on {tensor.device}"
                assert tensor.dtype != torch.float64, f"{func} with float64"
        return made


@every_module
def test_augmentation_stays_on_the_device_without_float64_or_synchronization(module: nn.Module, batch: Tensor) -> None:
    """MPS has no float64, and reading a value would make the host wait for CUDA."""
    images = batch.to("meta")
    with OnlyMeta():
        changed = module(images)
    assert (changed.dtype, changed.shape) == (batch.dtype, batch.shape)


def test_each_image_is_flipped_like_torchvision_or_unchanged(batch: Tensor) -> None:
    torch.manual_seed(0)
    flipped = RandomHorizontalFlip(0.5)(batch)
    changed = [not torch.equal(after, before) for after, before in zip(flipped, batch, strict=True)]
    assert 0 < sum(changed) < len(batch)
    for after, before, was_changed in zip(flipped, batch, changed, strict=True):
        assert torch.equal(after, functional.horizontal_flip(before) if was_changed else before)


def test_half_of_the_images_are_flipped() -> None:
    torch.manual_seed(0)
    ramps = torch.arange(4, dtype=torch.uint8).expand(10_000, 1, 1, 4)
    share = (RandomHorizontalFlip(0.5)(ramps)[:, 0, 0, 0] == 3).float().mean()
    assert abs(share - 0.5) < 0.02


@pytest.mark.parametrize("padding_mode", ["constant", "reflect"])
def test_crops_equal_torchvision(batch: Tensor, padding_mode: Any) -> None:
    crop = RandomCrop(3, padding_mode, fill=0.2)
    tops, lefts = crop.sample(batch)
    padded = [functional.pad(image, [3], fill=51, padding_mode=padding_mode) for image in batch]
    reference = [
        functional.crop(image, top, left, 20, 28)
        for image, (top, left) in zip(padded, parameters(tops, lefts), strict=True)
    ]
    assert torch.equal(gather_crops(crop.pad(batch), tops, lefts, (20, 28)), torch.stack(reference))


def test_crop_offsets_are_uniform() -> None:
    """A single white pixel shows the shift, one of 5 x 5."""
    torch.manual_seed(0)
    images = torch.zeros(10_000, 1, 7, 9, dtype=torch.uint8)
    images[:, :, 3, 4] = 1
    places, counts = RandomCrop(2)(images).flatten(1).argmax(1).unique(return_counts=True)
    assert places.tolist() == [row * 9 + column for row in range(1, 6) for column in range(2, 7)]
    assert (counts - 400).abs().max() < 100


@pytest.mark.parametrize(("mode", "longest"), [("reflect", 19), ("constant", 20)])
def test_padding_wider_than_the_image_is_a_user_error(mode: Literal["reflect", "constant"], longest: int) -> None:
    images = random_images(1)
    assert RandomCrop(longest, mode)(images).shape == images.shape
    augmentation = Augmentation({"flip": RandomHorizontalFlip(), "shift": RandomCrop(longest + 1, mode)})
    problem = rf"data\.augment\.shift: padding={longest + 1}.*20 x 28.*at most {longest}; .*data/augment"
    with pytest.raises(UserError, match=problem):
        augmentation.validate_shape((1, 20, 28))


def test_resized_crops_equal_torchvision(batch: Tensor) -> None:
    boxes = RandomResizedCrop(scale=(0.01, 1.0), ratio=(0.3, 3.0)).sample(batch)
    reference = [
        functional.resized_crop(image, *box, [20, 28], antialias=True)
        for image, box in zip(batch, parameters(*boxes), strict=True)
    ]
    assert_alike(resized_crop(batch, boxes), reference)
    assert torch.equal(resized_crop(batch, boxes, (20, 28)), resized_crop(batch, boxes))


@pytest.mark.parametrize("size", [(10, 9), (15, 40), (30, 31)], ids=["reduced", "both", "enlarged"])
@pytest.mark.parametrize("kind", ["image by image", "matrix products"])
def test_crops_of_another_size_equal_torchvision(batch: Tensor, size: tuple[int, int], kind: str) -> None:
    """Antialiased where they reduce: up to rounding, on the CPU and on devices that multiply matrices."""
    boxes = RandomResizedCrop(scale=(0.01, 1.0), ratio=(0.3, 3.0)).sample(batch)
    reference = [
        functional.resized_crop(image, *box, list(size), antialias=True)
        for image, box in zip(batch, parameters(*boxes), strict=True)
    ]
    crops = resized_crop(batch if kind == "image by image" else batch.float(), boxes, size)
    assert_alike(crops.to(torch.uint8), reference)


def test_resized_crops_do_not_depend_on_the_number_of_threads(batch: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = RandomResizedCrop().sample(batch)
    expected = resized_crop(batch, boxes, (9, 9))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(resized_crop(batch, boxes, (9, 9)), expected)


@every_module
def test_large_images_and_channels_last_give_the_same_images(
    module: nn.Module, batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU takes large images one after the other, and a cache has channels last."""
    augmentation, changed = Augmentation({"own": module}), []
    for large, memory_format in (
        (10**6, torch.contiguous_format),
        (10**6, torch.channels_last),
        (1, torch.contiguous_format),
        (1, torch.channels_last),
    ):
        monkeypatch.setattr("pytorch_intro.data.augment.basic.LARGE", large)
        torch.manual_seed(0)
        changed.append(augmentation(batch.to(memory_format=memory_format)))
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(changed[2], changed[3])
    assert_alike(changed[0], [*changed[2]])
    assert all(images.is_contiguous() for images in changed)


@pytest.mark.parametrize("size", [12, (12, 10)])
def test_the_size_of_resized_crops_is_that_of_the_network_unless_given(size: Any) -> None:
    images = random_images(1)
    augmentation = Augmentation({"own": RandomResizedCrop(size=size), "crop": RandomResizedCrop()})
    augmentation.set_size((8, 9))
    assert augmentation[0](images).shape[2:] == ((12, 12) if size == 12 else size)
    assert augmentation(images).shape[2:] == (8, 9)
    assert RandomResizedCrop()(images).shape == images.shape


def test_single_boxes_have_the_distribution_of_torchvision() -> None:
    """Also where no attempt fits, which leaves the central box."""
    random.seed(0)
    torch.manual_seed(0)
    ours = torch.tensor([RandomResizedCrop((0.5, 1), (0.2, 1)).sample_one(32, 48) for _ in range(4_000)]).float()
    theirs = sample_torchvision_boxes(v2.RandomResizedCrop(28, (0.5, 1), (0.2, 1)), "top left height width", 32, 48)
    error = theirs.float().std(dim=0) * (1 / len(theirs) + 1 / len(ours)) ** 0.5
    assert ((ours.mean(dim=0) - theirs.float().mean(dim=0)).abs() < 4 * error).all()
    assert (ours.std(dim=0) / theirs.float().std(dim=0) - 1).abs().max() < 0.1
    crop = RandomResizedCrop((1, 1), (8.0, 9.0))
    assert [list(crop.sample_one(20, 28))] == parameters(*crop.sample(torch.empty(1, 1, 20, 28)))


def test_resized_crop_of_the_whole_image_changes_nothing(batch: Tensor) -> None:
    assert_alike(RandomResizedCrop(scale=(1, 1), ratio=(1.4, 1.4))(batch), [*batch])


def sample_torchvision_boxes(transform: Any, names: str, height: int, width: int, count: int = 2_000) -> Tensor:
    """Return the parameters of many boxes, (count, number of names)."""
    image = torch.empty(1, height, width)
    boxes = [transform.make_params([image]) for _ in range(count)]
    return torch.tensor([[box[name] for name in names.split()] for box in boxes])


@pytest.mark.parametrize(
    ("ours", "torchvisions", "names"),
    [
        (RandomResizedCrop(), v2.RandomResizedCrop(28), "height width top left"),
        (RandomResizedCrop((0.5, 1), (0.2, 1)), v2.RandomResizedCrop(28, (0.5, 1), (0.2, 1)), "height width top left"),
        (RandomErasing(p=1), v2.RandomErasing(p=1), "h w i j"),
        (RandomErasing(1, (0.1, 0.4), (1, 4)), v2.RandomErasing(1, (0.1, 0.4), (1, 4)), "h w i j"),
    ],
    ids=["crop", "tall_crop", "erasing", "tall_erasing"],
)
def test_boxes_have_the_distribution_of_torchvision(ours: Any, torchvisions: Any, names: str) -> None:
    """Same mean and standard deviation of heights, widths, areas and positions."""
    torch.manual_seed(0)
    boxes = ours.sample(torch.empty(10_000, 1, 32, 48))
    sides = torch.stack([boxes.height, boxes.width, boxes.top, boxes.left, boxes.height * boxes.width], dim=1).float()
    reference = sample_torchvision_boxes(torchvisions, names, 32, 48).float()
    reference = torch.cat([reference, reference[:, :2].prod(dim=1, keepdim=True)], dim=1)
    error = reference.std(dim=0) * (1 / len(reference) + 1 / len(sides)) ** 0.5
    assert ((sides.mean(dim=0) - reference.mean(dim=0)).abs() < 4 * error).all()
    assert (sides.std(dim=0) / reference.std(dim=0) - 1).abs().max() < 0.1


@pytest.mark.parametrize(
    "module", [RandomResizedCrop((0.2, 0.6), (0.5, 1.5)), RandomErasing(1, (0.2, 0.6), (0.5, 1.5))]
)
def test_areas_and_ratios_reach_but_do_not_exceed_their_limits(module: Any) -> None:
    """Up to rounding to pixels; boxes lie within the image and reach its borders."""
    torch.manual_seed(0)
    boxes = module.sample(torch.empty(10_000, 1, 100, 120))
    height, width = boxes.height.float(), boxes.width.float()
    area = height * width / 12_000
    ratio = width / height if isinstance(module, RandomResizedCrop) else height / width
    for values, low, high in ((area, 0.2, 0.6), (ratio, 0.5, 1.5)):
        torch.testing.assert_close(torch.stack(values.aminmax()), torch.tensor([low, high]), atol=0, rtol=0.03)
    for start, length, size in ((boxes.top, boxes.height, 100), (boxes.left, boxes.width, 120)):
        assert start.min() == 0
        assert (start + length).max() == size


@pytest.mark.parametrize("ratio", [(0.1, 0.2), (8.0, 9.0)], ids=["tall", "wide"])
def test_resized_crop_falls_back_to_the_central_crop_of_torchvision(ratio: tuple[float, float]) -> None:
    images = torch.empty(4, 1, 20, 28)
    central = v2.RandomResizedCrop(28, (1, 1), ratio).make_params([images])
    boxes = RandomResizedCrop((1, 1), ratio).sample(images)
    assert parameters(*boxes) == [[central[side] for side in ("top", "left", "height", "width")]] * 4


def test_resized_crop_has_at_least_one_pixel() -> None:
    """Also for a ratio so extreme that torchvision's central crop is empty."""
    boxes = RandomResizedCrop((1, 1), (0.01, 0.02)).sample(torch.empty(1, 1, 20, 28))
    assert parameters(*boxes) == [[0, 13, 20, 1]]


def test_erased_boxes_are_smaller_than_the_image() -> None:
    torch.manual_seed(0)
    boxes = RandomErasing(p=1, scale=(0.1, 1)).sample(torch.empty(1_000, 1, 6, 8))
    assert boxes.height.max() == 5
    assert boxes.width.max() == 7


def test_erasing_without_a_valid_box_changes_nothing(batch: Tensor) -> None:
    assert torch.equal(RandomErasing(p=1, scale=(1, 1))(batch), batch)


def test_erased_boxes_equal_torchvision(batch: Tensor) -> None:
    """With one value for all channels and with one per channel, as shares of white."""
    boxes = RandomErasing(p=1).sample(batch)
    for value in (0.3, [0.1, 0.2, 0.9][: batch.shape[1]]):
        paint = (torch.tensor(value).view(-1, 1, 1) * 255).round()
        reference = [functional.erase(image, *box, paint) for image, box in zip(batch, parameters(*boxes), strict=True)]
        assert torch.equal(erase(batch, boxes, value), torch.stack(reference))


def test_erasing_changes_a_share_p_of_the_images() -> None:
    torch.manual_seed(0)
    erased = (
        RandomErasing(p=0.3, scale=(0.1, 0.2))(torch.ones(10_000, 1, 12, 12, dtype=torch.uint8)).amin(dim=(1, 2, 3))
        == 0
    )
    assert abs(erased.float().mean() - 0.3) < 0.02


@pytest.mark.parametrize("size", [1, 8, 9, 100])
def test_cutout_is_a_square_clipped_at_the_borders(batch: Tensor, size: int) -> None:
    cutout = Cutout(size, value=1.0)
    boxes = cutout.sample(batch)
    paint = torch.tensor([[[255.0]]])
    reference = [functional.erase(image, *box, paint) for image, box in zip(batch, inside(boxes, 20, 28), strict=True)]
    assert torch.equal(erase(batch, boxes, cutout.value), torch.stack(reference))


def test_cutout_center_is_uniform_over_the_image() -> None:
    torch.manual_seed(0)
    images = torch.ones(10_000, 1, 5, 6, dtype=torch.uint8)
    places, counts = (1 - Cutout(1)(images)).flatten(1).argmax(1).unique(return_counts=True)
    assert len(places) == 30
    assert (counts - 10_000 / 30).abs().max() < 100
    assert (1 - Cutout(3)(images)).float().mean() == pytest.approx((3 * 5 - 2) * (3 * 6 - 2) / 30**2, abs=0.01)


@pytest.mark.parametrize("module", [RandomErasing(value=[0.1, 0.2]), Cutout(4, value=[0.1, 0.2])])
def test_wrong_number_of_fill_values_is_a_user_error(module: nn.Module, batch: Tensor) -> None:
    with pytest.raises(
        UserError, match=rf"data\.augment\.fill: .*2 values.*{batch.shape[1]} channel.*; .*data/augment"
    ):
        Augmentation({"fill": module}).validate_shape((batch.shape[1], 20, 28))


@pytest.mark.parametrize("module", [RandomErasing, RandomResizedCrop])
@pytest.mark.parametrize("name", ["scale", "ratio"])
def test_limits_in_the_wrong_order_are_a_user_error(module: type[nn.Module], name: str) -> None:
    augmentation = Augmentation({"box": module(**{name: (0.9, 0.1)})})
    with pytest.raises(UserError, match=rf"data\.augment\.box: {name}=\[0.9, 0.1\]: lower limit above upper limit; .*"):
        augmentation.validate_shape((1, 20, 28))


@pytest.mark.parametrize(
    ("ours", "torchvisions"),
    [(adjust_brightness, functional.adjust_brightness), (adjust_contrast, functional.adjust_contrast)],
    ids=["brightness", "contrast"],
)
def test_brightness_and_contrast_equal_torchvision(
    ours: Callable[[Tensor, Tensor], Tensor], torchvisions: Callable[[Tensor, float], Tensor], batch: Tensor
) -> None:
    factors = torch.linspace(0, 2, len(batch))
    reference = [torchvisions(image, factor) for image, factor in zip(batch, factors.tolist(), strict=True)]
    assert_alike(ours(batch, factors), reference)


def test_brightness_is_adjusted_before_contrast(batch: Tensor) -> None:
    module = RandomBrightnessContrast(0.8, 0.8)
    torch.manual_seed(0)
    brightness, contrast = module.sample(batch)
    torch.manual_seed(0)
    assert torch.equal(module(batch), adjust_contrast(adjust_brightness(batch, brightness), contrast))


def test_brightness_and_contrast_factors_are_uniform_and_never_negative() -> None:
    torch.manual_seed(0)
    brightness, contrast = RandomBrightnessContrast(0.2, 1.5).sample(torch.empty(10_000, 1, 1, 1))
    for factors, low, high in ((brightness, 0.8, 1.2), (contrast, 0, 2.5)):
        quartiles = torch.quantile(factors, torch.linspace(0, 1, 5))
        torch.testing.assert_close(quartiles, torch.linspace(low, high, 5), rtol=0, atol=0.05 * (high - low))
        assert math.isclose(factors.min(), low, abs_tol=0.01)


def test_brightness_and_contrast_of_strength_zero_change_nothing(batch: Tensor) -> None:
    torch.testing.assert_close(RandomBrightnessContrast(0, 0)(batch), batch)


def test_an_augmentation_that_returns_nothing_is_a_user_error() -> None:
    class NoReturn(nn.Module):
        def forward(self, images: Tensor) -> None:
            images.float()

    with pytest.raises(UserError, match=r"^data\.augment\.own: returns a NoneType, expected images \(N, C, H, W\); "):
        Augmentation({"own": NoReturn(), "flip": RandomHorizontalFlip()}).validate_shape((1, 20, 28))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("RandomRotation", {"degrees": 15}),
        ("RandomRotation", {"degrees": [-15, 15]}),
        ("RandomAffine", {"degrees": 10.5, "translate": [0.1, 0.1], "shear": 5}),
        ("ColorJitter", {"brightness": 0.2, "contrast": [0.8, 1.2]}),
        ("RandomPerspective", {"distortion_scale": 0.2, "p": 0.3}),
    ],
)
def test_valid_settings_of_torchvision_are_accepted(name: str, settings: dict[str, Any]) -> None:
    """Some are annotated with abstract classes, such as numbers.Number."""
    node = OmegaConf.create({"_target_": f"torchvision.transforms.v2.{name}", **settings})
    check_config(node, "data.augment.own")
    Augmentation({"own": instantiate(node, "data.augment.own")}).validate_shape((3, 20, 28))
    node[next(iter(settings))] = "wrong"
    with pytest.raises(UserError, match=r"^data\.augment\.own\.\w+=wrong: invalid value; "):
        check_config(node, "data.augment.own")


def test_images_neither_gray_nor_rgb_are_a_user_error() -> None:
    augmentation = Augmentation({"flip": RandomHorizontalFlip(), "light": RandomBrightnessContrast()})
    with pytest.raises(UserError, match=r"data\.augment\.light: needs .*, not 2; .*remove it from data/augment"):
        augmentation.validate_shape((2, 20, 28))


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_any_error_of_a_module_becomes_one_line_with_its_name(error: type[Exception]) -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise error("two\nlines")

    augmentation = Augmentation({"flip": RandomHorizontalFlip(), "own": Failing()})
    with pytest.raises(UserError, match=r"^data\.augment\.own: .*two.*lines.*; change its settings.*data/augment$"):
        augmentation.validate_shape((1, 20, 28))


def test_changed_shape_or_dtype_is_a_user_error_but_may_be_changed_back() -> None:
    with pytest.raises(UserError, match=r"data\.augment: .*uint8 to .*float32; return the same shape and dtype"):
        Augmentation({"float": v2.ToDtype(torch.float32)}).validate_shape((1, 20, 28))
    Augmentation({"float": v2.ToDtype(torch.float32), "back": v2.ToDtype(torch.uint8)}).validate_shape((1, 20, 28))
