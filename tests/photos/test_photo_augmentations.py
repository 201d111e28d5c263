"""Augmentations for photographs sample per image, and change each image as torchvision does."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Command, sample_datamodule
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from pytorch_intro.common.errors import UserError
from pytorch_intro.data.augment.basic import adjust_brightness, adjust_contrast
from pytorch_intro.data.augment.pipeline import Augmentation
from pytorch_intro.photos import geometry
from pytorch_intro.photos.color import ColorJitter, RandomGrayscale, adjust, adjust_hue, adjust_saturation, to_grayscale
from pytorch_intro.photos.filters import RandomGaussianBlur, adjust_sharpness, gaussian_blur
from pytorch_intro.photos.geometry import Interpolation, RandomAffine, RandomVerticalFlip, warp
from pytorch_intro.photos.groups import Groups, apply_by_group, sample_groups
from pytorch_intro.photos.policies import (
    GEOMETRIC_OPERATIONS,
    MAX_LEVEL,
    OPERATIONS,
    Choice,
    RandAugment,
    RandomOperations,
    TrivialAugmentWide,
)
from pytorch_intro.photos.tones import autocontrast, equalize, posterize, solarize

MODULES = {
    "vflip": RandomVerticalFlip(),
    "color_jitter": ColorJitter(),
    "affine": RandomAffine(30, (0.2, 0.1), (0.8, 1.2), (20, 10)),
    "nearest_affine": RandomAffine(30, interpolation="nearest", fill=0.5),
    "grayscale": RandomGrayscale(0.5),
    "blur": RandomGaussianBlur(),
    "randaugment": RandAugment(),
    "trivialaugment": TrivialAugmentWide(fill=[0.5]),
}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
interpolations = pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])


def random_images(channels: int, count: int = 33, height: int = 21, width: int = 28) -> Tensor:
    """Return random images of different contrasts, (count, channels, height, width) uint8."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (count, channels, height, width))
    return (images * torch.linspace(1, 0, count)[:, None, None, None]).byte()


@pytest.fixture(params=[1, 3], ids=["gray", "color"])
def batch(request: pytest.FixtureRequest) -> Tensor:
    """Return random images, (33, 1 or 3, 21, 28) uint8; the last one is black."""
    return random_images(request.param)


@every_module
def test_photo_augmentation_keeps_dtype_and_shape(module: nn.Module, batch: Tensor) -> None:
    changed = module(batch)
    assert (changed.dtype, changed.shape) == (batch.dtype, batch.shape)


@every_module
def test_photo_augmentation_does_not_modify_its_input(module: nn.Module) -> None:
    batch = random_images(3)
    before = batch.clone()
    assert not torch.equal(module(batch), before)
    assert torch.equal(batch, before)


@every_module
def test_photo_augmentation_with_the_same_seed_gives_the_same_images(module: nn.Module) -> None:
    batch = random_images(3)

    def augment(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return module(batch)

    assert torch.equal(augment(3), augment(3))
    assert not torch.equal(augment(3), augment(4))


@every_module
def test_photos_of_one_batch_are_augmented_differently(module: nn.Module) -> None:
    """A batch of 33 copies of one image becomes several images."""
    same = random_images(3, count=1).expand(33, -1, -1, -1)
    different = len({tuple(image.flatten().tolist()) for image in module(same)})
    assert different == 2 if isinstance(module, (RandomVerticalFlip, RandomGrayscale)) else different > 10


class StaysOnMeta(TorchDispatchMode):
    """Fails on float64, and where an operation moves values between the host and the meta device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        assert len({tensor.device.type for tensor in tensors}) <= 1, f"{func} on several devices"
        assert all(tensor.dtype != torch.float64 for tensor in tensors), f"{func} with float64"
        return made


@every_module
def test_photo_augmentation_needs_no_float64_and_no_synchronization(module: nn.Module, batch: Tensor) -> None:
    """Which images have which operation is known to the device only; the host samples how many have it."""
    images = batch.to("meta")
    with StaysOnMeta():
        changed = module(images)
    assert (changed.device.type, changed.dtype, changed.shape) == ("meta", batch.dtype, batch.shape)


def per_image(function: Callable[..., Tensor], images: Tensor, *parameters: Any) -> Tensor:
    """Apply torchvision's function to each image with its own parameters."""
    values = [parameter.tolist() for parameter in parameters]
    return torch.stack([function(image, *own) for image, *own in zip(images, *values, strict=True)])


ONE_FACTOR = {
    "brightness": (adjust_brightness, functional.adjust_brightness, torch.linspace(0, 2, 33)),
    "contrast": (adjust_contrast, functional.adjust_contrast, torch.linspace(0, 2, 33)),
    "saturation": (adjust_saturation, functional.adjust_saturation, torch.linspace(0, 2, 33)),
    "sharpness": (adjust_sharpness, functional.adjust_sharpness, torch.linspace(0, 2, 33)),
    "posterize": (posterize, functional.posterize, torch.arange(33) % 9),
    "solarize": (solarize, functional.solarize, torch.linspace(0, 255, 33)),
}
NO_FACTOR = {
    "autocontrast": (autocontrast, functional.autocontrast),
    "equalize": (equalize, functional.equalize),
}


@pytest.mark.parametrize(("ours", "torchvisions", "values"), ONE_FACTOR.values(), ids=ONE_FACTOR)
def test_operation_with_one_value_per_image_equals_torchvision(
    ours: Callable[..., Tensor], torchvisions: Callable[..., Tensor], values: Tensor, batch: Tensor
) -> None:
    assert torch.equal(ours(batch, values), per_image(torchvisions, batch, values))


@pytest.mark.parametrize(("ours", "torchvisions"), NO_FACTOR.values(), ids=NO_FACTOR)
def test_operation_without_values_equals_torchvision(
    ours: Callable[..., Tensor], torchvisions: Callable[..., Tensor], batch: Tensor
) -> None:
    assert torch.equal(ours(batch), per_image(torchvisions, batch))


def test_grayscale_equals_torchvision(batch: Tensor) -> None:
    assert torch.equal(to_grayscale(batch), functional.rgb_to_grayscale(batch, batch.shape[1]))


def test_hue_equals_torchvision() -> None:
    """All shifts of colors from the whole cube: corners, edges and shades of gray included."""
    levels = torch.tensor([0, 1, 60, 127, 128, 200, 254, 255], dtype=torch.uint8)
    colors = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 16, 32).expand(33, -1, -1, -1)
    shifts = torch.linspace(-0.5, 0.5, 33)
    expected = per_image(functional.adjust_hue, colors, shifts)
    assert (expected != colors).any()
    torch.testing.assert_close(adjust_hue(colors, shifts), expected, rtol=0, atol=1)
    gray = random_images(1)
    assert torch.equal(adjust_hue(gray, shifts), gray)


@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_blur_equals_torchvision(batch: Tensor, kernel_size: int) -> None:
    sigmas = torch.linspace(0.1, 3, len(batch))
    expected = per_image(
        lambda image, sigma: functional.gaussian_blur(image, [kernel_size] * 2, [sigma]), batch, sigmas
    )
    torch.testing.assert_close(gaussian_blur(batch, kernel_size, sigmas), expected, rtol=0, atol=1)


@interpolations
@pytest.mark.parametrize("fill", [0.0, 1.0, [0.2, 0.4, 0.6]], ids=["black", "white", "color"])
def test_affine_equals_torchvision(interpolation: Interpolation, fill: Any) -> None:
    """Filled pixels are those of torchvision with zeros outside, of the differences from the fill."""
    batch = random_images(3)
    affine = RandomAffine(170, (0.3, 0.2), (0.5, 1.5), (30, 20)).sample(batch)
    levels = torch.tensor(fill).mul(255).view(-1, 1, 1)

    def transform(image: Tensor, angle: float, shift: list[float], scale: float, shear: list[float]) -> Tensor:
        mode = InterpolationMode(interpolation)
        moved = functional.affine(image - levels, angle, shift, scale, shear, interpolation=mode)
        return (moved + levels).round().byte()

    changed = warp(batch, geometry.inverse_matrices(affine), interpolation, fill)
    differs = (changed.int() - per_image(transform, batch, *affine).int()).abs() > (interpolation == "bilinear")
    assert differs.float().mean() < 1e-4  # coordinates next to halves of pixels may be rounded to either side


def test_identical_affine_changes_nothing(batch: Tensor) -> None:
    for interpolation in ("nearest", "bilinear"):
        assert torch.equal(RandomAffine(0, interpolation=interpolation)(batch), batch)


def test_affine_parameters_are_uniform_within_their_limits() -> None:
    affine = RandomAffine(30, (0.1, 0.2), (0.5, 2.0), (5, 10)).sample(torch.empty(10_000, 1, 100, 200))
    values = {
        "angle": (affine.angles, -30, 30),
        "x": (affine.translations[:, 0], -20, 20),
        "y": (affine.translations[:, 1], -20, 20),
        "scale": (affine.scales, 0.5, 2),
        "shear along x": (affine.shears[:, 0], -5, 5),
        "shear along y": (affine.shears[:, 1], -10, 10),
    }
    for name, (sampled, low, high) in values.items():
        quartiles, expected = torch.quantile(sampled, torch.linspace(0, 1, 5)), torch.linspace(low, high, 5)
        torch.testing.assert_close(quartiles, expected, rtol=0, atol=0.05 * (high - low), msg=name)
    assert torch.equal(affine.translations, affine.translations.round())


def test_vertical_flip_equals_torchvision_for_half_of_the_images(batch: Tensor) -> None:
    flip = RandomVerticalFlip()
    torch.manual_seed(0)
    is_flipped = flip.sample(batch)
    torch.manual_seed(0)
    for after, before, flipped in zip(flip(batch), batch, is_flipped, strict=True):
        assert torch.equal(after, functional.vertical_flip(before) if flipped else before)
    assert abs(flip.sample(torch.empty(10_000, 1, 1, 1)).float().mean() - 0.5) < 0.02


def test_color_jitter_applies_its_adjustments_in_the_sampled_order(batch: Tensor) -> None:
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.5)
    torch.manual_seed(0)
    sampled, expected = jitter.sample(batch), batch
    for name, values in sampled.items():
        expected = adjust(expected, name, values)
    torch.manual_seed(0)
    assert torch.equal(jitter(batch), expected)


def test_color_jitter_samples_all_orders_and_skips_strengths_of_zero() -> None:
    torch.manual_seed(0)
    images = torch.empty(2_000, 3, 1, 1)
    assert len({tuple(ColorJitter().sample(images[:1])) for _ in range(300)}) == 24
    assert set(ColorJitter(0.2, 0, 0, 0.1).sample(images)) == {"brightness", "hue"}
    sampled = ColorJitter(0.2, 1.5, 0.4, 0.1).sample(images)
    limits = {"brightness": (0.8, 1.2), "contrast": (0, 2.5), "saturation": (0.6, 1.4), "hue": (-0.1, 0.1)}
    for name, (low, high) in limits.items():
        quartiles, expected = torch.quantile(sampled[name], torch.linspace(0, 1, 5)), torch.linspace(low, high, 5)
        torch.testing.assert_close(quartiles, expected, rtol=0, atol=0.05 * (high - low))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_share_p_of_the_images_becomes_gray_or_blurred(p: float) -> None:
    torch.manual_seed(0)
    images = random_images(3, count=1, height=9, width=9).expand(4_000, -1, -1, -1)
    for module in (RandomGrayscale(p), RandomGaussianBlur(p, sigma=(1, 2))):
        changed = (module(images) != images).flatten(1).any(dim=1).float().mean()
        assert changed == p if p in (0, 1) else abs(changed - p) < 0.03


def test_groups_are_those_of_one_independent_choice_per_image() -> None:
    """Expected shares for each place in the batch, and the variance of a group's size is binomial."""
    torch.manual_seed(0)
    images, shares = torch.empty(4, 1, 1, 1), [0.5, 0.2, 0.3]
    groups = [sample_groups(images, shares) for _ in range(4_000)]
    members = torch.stack([torch.arange(3).repeat_interleave(torch.tensor(g.sizes))[g.order.argsort()] for g in groups])
    for group, share in enumerate(shares):
        torch.testing.assert_close((members == group).float().mean(dim=0), torch.full((4,), share), rtol=0, atol=0.03)
        sizes = torch.tensor([g.sizes[group] for g in groups]).float()
        assert sizes.var() == pytest.approx(4 * share * (1 - share), rel=0.1)


def test_each_group_has_its_operation_and_the_order_of_the_batch_is_kept() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    groups = Groups(torch.tensor([4, 0, 5, 1, 2, 3]), [2, 0, 3, 1])
    changed = apply_by_group(images, groups, [lambda i: i + 100, lambda i: i[:, :0], None, lambda i: i + 200])
    assert changed.flatten().tolist() == [100, 1, 2, 203, 104, 5]


POLICIES: dict[str, tuple[RandomOperations, Any]] = {
    "randaugment": (RandAugment(), v2.RandAugment),
    "trivialaugment": (TrivialAugmentWide(), v2.TrivialAugmentWide),
}
every_policy = pytest.mark.parametrize(("ours", "torchvisions"), POLICIES.values(), ids=POLICIES)


def torchvision_name(operation: str) -> str:
    return "AutoContrast" if operation == "autocontrast" else operation.title().replace("_", "")


@every_policy
def test_policies_have_the_operations_and_magnitudes_of_torchvision(ours: RandomOperations, torchvisions: Any) -> None:
    space = torchvisions._AUGMENTATION_SPACE
    assert [*space] == [torchvision_name(operation) for operation in OPERATIONS]
    ranges = ours.ranges(200, 300)
    for operation in OPERATIONS:
        magnitudes, is_signed = space[torchvision_name(operation)]
        expected = magnitudes(MAX_LEVEL + 1, 200, 300)
        assert (operation in ranges) == (expected is not None)
        if operation in ranges:
            values = torch.linspace(ranges[operation].first, ranges[operation].last, MAX_LEVEL + 1)
            torch.testing.assert_close(values.round() if operation == "posterize" else values, expected.float())
            assert ranges[operation].is_signed == is_signed


@interpolations
@every_policy
def test_policies_change_each_image_as_torchvision_does(
    ours: RandomOperations, torchvisions: Any, interpolation: Interpolation, batch: Tensor
) -> None:
    """All operations, at six levels and with both signs; no coordinates lie in the middle between two pixels."""
    batch = batch[torch.arange(14 * 6) % len(batch)]
    order = torch.randperm(len(batch))
    levels, signs = torch.tensor([3.0, 9, 13, 17, 23, 30]).repeat(14), torch.tensor([1.0, -1]).repeat(42)
    policy = type(ours)(interpolation=interpolation)  # type: ignore[call-arg]
    changed = policy.apply_operations(batch, Choice(Groups(order, [6] * 14), levels, signs))
    reference, mode = torchvisions(), InterpolationMode(interpolation)
    for place, index in enumerate(order.tolist()):
        name = OPERATIONS[place // 6]
        first, last, is_signed = ours.ranges(21, 28).get(name, (0, 0, False))
        magnitude = (first + (last - first) * levels[place].item() / MAX_LEVEL) * (
            signs[place].item() if is_signed else 1
        )
        magnitude = round(magnitude) if name == "posterize" else magnitude
        expected = reference._apply_image_or_video_transform(
            batch[index], torchvision_name(name), magnitude, interpolation=mode, fill={Tensor: None}
        )
        is_exact = interpolation == "nearest" and name in GEOMETRIC_OPERATIONS  # other magnitudes may be rounded
        torch.testing.assert_close(changed[index], expected, rtol=0, atol=0 if is_exact else 1, msg=name)


def test_randaugment_applies_several_operations_of_its_magnitude() -> None:
    images = random_images(3, count=4)
    torch.manual_seed(0)
    changed = RandAugment(num_ops=3, magnitude=20)(images)
    torch.manual_seed(0)
    single = RandAugment(num_ops=1, magnitude=20)
    assert torch.equal(changed, single(single(single(images))))
    assert set(single.sample(images).levels.tolist()) == {20}


def test_policies_sample_operations_levels_and_signs_uniformly() -> None:
    torch.manual_seed(0)
    groups, levels, signs = TrivialAugmentWide().sample(torch.empty(28_000, 3, 1, 1))
    assert len(groups.sizes) == 14
    assert all(abs(size - 2_000) < 200 for size in groups.sizes)
    values, counts = levels.unique(return_counts=True)
    assert values.tolist() == [*range(31)]
    assert ((counts / 28_000 - 1 / 31).abs() < 0.005).all()
    assert signs.unique().tolist() == [-1, 1]
    assert abs(signs.mean()) < 0.03


def test_photos_computed_a_few_at_a_time_equal_those_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU and on a GPU."""
    batch = random_images(3)
    for name, module in MODULES.items():
        changed = []
        for values in (1, 5 * batch[0].numel(), batch.numel()):
            monkeypatch.setattr("pytorch_intro.data.augment.basic.CHUNK", values)
            torch.manual_seed(0)
            changed.append(module(batch))
        assert torch.equal(changed[0], changed[1]), name
        assert torch.equal(changed[0], changed[2]), name


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", ["color_jitter", "grayscale", "randaugment", "trivialaugment"])
def test_photos_neither_gray_nor_rgb_are_a_user_error(name: str, channels: int) -> None:
    augmentation = Augmentation({"vflip": RandomVerticalFlip(), name: MODULES[name]})
    problem = (
        rf"^data\.augment\.{name}: needs images of 1 channel .* or 3 .*, not {channels}; .*remove it from data/augment"
    )
    with pytest.raises(UserError, match=problem):
        augmentation.validate_shape((channels, 21, 28))


@pytest.mark.parametrize("channels", [2, 4])
def test_geometry_and_blur_take_any_number_of_channels(channels: int) -> None:
    modules = {name: MODULES[name] for name in ("vflip", "affine", "nearest_affine", "blur")}
    Augmentation(modules).validate_shape((channels, 21, 28))


WRONG = {
    "limits of sigma": (RandomGaussianBlur(0, sigma=(2, 1)), r"sigma=\[2, 1\]: lower limit above upper limit"),
    "even kernel": (RandomGaussianBlur(0, kernel_size=4), "kernel_size=4: not an odd number"),
    "large kernel": (RandomGaussianBlur(0, kernel_size=43), "kernel_size=43: 21 x 28 pixels allow at most 41"),
    "limits of scale": (RandomAffine(0, scale=(2, 1)), r"scale=\[2, 1\]: lower limit above upper limit"),
    "fill of an affine": (RandomAffine(0, fill=[0, 1]), r"fill=\[0, 1\]: 2 values, .*3 channel\(s\)"),
    "fill of a policy": (RandAugment(fill=[0, 1]), r"fill=\[0, 1\]: 2 values, .*3 channel\(s\)"),
}


@pytest.mark.parametrize(("module", "problem"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_a_user_error_whatever_is_sampled(module: nn.Module, problem: str) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        with pytest.raises(UserError, match=rf"^data\.augment\.own: {problem}; change its settings"):
            Augmentation({"own": module}).validate_shape((3, 21, 28))


def test_the_largest_kernel_that_is_allowed_works(batch: Tensor) -> None:
    assert RandomGaussianBlur(1, kernel_size=41)(batch).shape == batch.shape


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("photos", ["resized_crop", "flip", "trivialaugment"]),
        ("[photos_light,erasing]", ["resized_crop", "flip", "color_jitter", "erasing"]),
    ],
)
def test_policies_are_lists_of_augmentations_that_can_be_extended(choice: str, names: list[str]) -> None:
    """Settings of their parts can be changed, and networks are tested on mirror images too."""
    datamodule = sample_datamodule(f"data/augment={choice}", "data.augment.resized_crop.scale=[0.7,1]")
    assert datamodule.augment.names == names
    assert datamodule.augment.has_hflip
    assert datamodule.augment[0].scale == [0.7, 1]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["data/augment=color_jitter", "data.augment.color_jitter.hue=0.7"], "data.augment.color_jitter.hue"),
        (["data/augment=randaugment", "data.augment.randaugment.num_ops=0"], "data.augment.randaugment.num_ops"),
        (["data/augment=randaugment", "data.augment.randaugment.magnitude=31"], "data.augment.randaugment.magnitude"),
        (["data/augment=blur", "data.augment.blur.kernel_size=58"], "kernel_size=58: not an odd number"),
    ],
)
def test_wrong_settings_of_photo_augmentations_end_with_one_line(
    command: Command, arguments: list[str], problem: str
) -> None:
    answer = command("data=sample", "trainer=cpu", *arguments)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert line.startswith("error: ")
    assert problem in line
