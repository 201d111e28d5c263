"""Heat maps point at the evidence, for every kind of network that has places, and refuse the others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, write_images
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models import SqueezeNet, VisionTransformer, squeezenet1_1

from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.explain import check_explainable, heat_maps, network_view, overlay
from pytorch_intro.inference.load import LoadedRun, Predictor, Transforms
from pytorch_intro.models.cnn import CNN
from pytorch_intro.models.mlp import MLP
from pytorch_intro.models.resnet import ResNet
from pytorch_intro.training.classifier import Classifier

SIZE = 32


def make_predictor(network: nn.Module, channels: int = 1, decoded: int = SIZE, **options: Any) -> Predictor:
    """Return a predictor whose images are stored with `decoded` pixels per side."""
    classifier = Classifier(network, 2, optimizer=None, scheduler=None, **options).eval()  # type: ignore[arg-type]
    inputs = {
        "image_shape": [channels, SIZE, SIZE], "decoded_size": [decoded, decoded], "resize": "crop", "bit_depth": 8,
        "interpolation": "bilinear", "crop_pct": SIZE / decoded, "mean": [0.5] * channels, "std": [0.25] * channels,
    }  # fmt: skip
    return Predictor(LoadedRun(classifier, ["dark", "light"], Transforms(inputs)))


def corner_images(count: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return noise whose upper left corner is black for class 0 and white for class 1."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, 200, (count, channels, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    targets = torch.arange(count) % 2
    images[:, :, :12, :12] = (255 * targets.byte()).view(-1, 1, 1, 1)
    return images, targets


def train(predictor: Predictor, images: Tensor, targets: Tensor, steps: int = 20) -> None:
    predictor.train()
    inputs = predictor.normalize(images)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(predictor.network(inputs), targets).backward()
        optimizer.step()
    predictor.eval()
    assert (predictor(images).argmax(dim=1) == targets).float().mean() > 0.95


def tiny_timm(name: str, **arguments: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model(name, num_classes=2, **arguments)


def with_random_head(network: VisionTransformer) -> nn.Module:
    nn.init.normal_(network.heads.head.weight)  # torchvision's is 0
    return network


def with_live_head(network: SqueezeNet) -> nn.Module:
    nn.init.ones_(network.classifier[1].bias)  # a ReLU follows, whose output would be 0 for some random weights
    return network


VIT = {"img_size": SIZE, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
NETWORKS = {
    "cnn": lambda: CNN((3, SIZE, SIZE), 2, width=8),
    "cnn with residuals": lambda: CNN((3, SIZE, SIZE), 2, width=8, residuals=1, cosine_stem=True),
    "resnet": lambda: ResNet((3, SIZE, SIZE), 2, width=8),
    "squeezenet of torchvision": lambda: with_live_head(squeezenet1_1(num_classes=2)),
    "vit of torchvision": lambda: with_random_head(VisionTransformer(SIZE, 8, 2, 2, 32, 64, num_classes=2)),
    "efficientnet of timm": lambda: tiny_timm("test_efficientnet"),
    "vit with a class token": lambda: tiny_timm("vit_tiny_patch16_224", **VIT),
    "vit with four registers": lambda: tiny_timm("vit_tiny_patch16_224", reg_tokens=4, **VIT),
    "vit with mean pooling": lambda: tiny_timm("vit_tiny_patch16_224", global_pool="avg", class_token=False, **VIT),
    "swin": lambda: tiny_timm(
        "swin_tiny_patch4_window7_224", img_size=SIZE, embed_dim=32, depths=[2, 2], num_heads=[2, 2], window_size=4
    ),
    "convnext": lambda: tiny_timm("test_convnext"),
}


@pytest.mark.parametrize("name", ["cnn", "resnet", "vit with a class token", "vit with mean pooling"])
def test_most_of_the_heat_is_where_the_class_is_decided(name: str) -> None:
    """The corner is a seventh of the image, and the quadrant around it a quarter."""
    torch.manual_seed(0)
    images, targets = corner_images(128, channels=3)
    predictor = make_predictor(NETWORKS[name](), channels=3)
    train(predictor, images, targets)
    heat = heat_maps(predictor, images[:16])
    share = heat[:, : SIZE // 2, : SIZE // 2].sum(dim=(1, 2)) / heat.sum(dim=(1, 2))
    assert share.median() > 0.5, share


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_with_places_has_a_heat_map(name: str) -> None:
    torch.manual_seed(0)
    predictor = make_predictor(NETWORKS[name](), channels=3)
    images = torch.randint(256, (3, 3, SIZE, SIZE), dtype=torch.uint8)
    maps = [heat_maps(predictor, images, torch.full((3,), number)) for number in range(2)]
    heat = torch.maximum(*maps)  # where no feature speaks for a class, its map is 0
    assert heat.shape == (3, SIZE, SIZE)
    assert heat.isfinite().all()
    assert heat.min() >= 0
    assert heat.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert not torch.equal(heat[0], heat[2]), "of the image, not of the class alone"
    assert not [module for module in predictor.modules() if module._forward_hooks], "no hook stays"


def test_a_network_without_places_is_refused() -> None:
    predictor = make_predictor(MLP((1, SIZE, SIZE), 2))
    with pytest.raises(UserError, match=r"explain=true: MLP has no map of features .*; use a convolutional network"):
        check_explainable(predictor)


def test_augmentation_temperature_and_batches_do_not_change_the_map() -> None:
    torch.manual_seed(0)
    network = CNN((1, SIZE, SIZE), 2, width=8)
    images, targets = corner_images(20)
    plain = make_predictor(network)
    expected = heat_maps(plain, images, targets)
    augmented = make_predictor(network, tta_flip=True, tta_shift=1)
    augmented.network.temperature = 3.0
    torch.testing.assert_close(heat_maps(augmented, images, targets), expected)
    torch.testing.assert_close(heat_maps(plain, images[18:19], targets[18:19]), expected[18:19])
    classes = augmented(images).argmax(dim=1)
    torch.testing.assert_close(heat_maps(augmented, images), heat_maps(augmented, images, classes))
    assert not torch.equal(heat_maps(plain, images, 1 - targets), expected)


def test_a_map_covers_what_the_network_sees() -> None:
    """Images that are stored larger than the network's input are cropped first."""
    predictor = make_predictor(CNN((1, SIZE, SIZE), 2, width=8), decoded=48)
    images = torch.arange(48 * 48).view(1, 1, 48, 48).div(10).byte()
    assert torch.equal(network_view(predictor, images), images[..., 8:40, 8:40])
    assert heat_maps(predictor, images).shape == (1, SIZE, SIZE)


def test_only_the_hot_part_of_a_picture_is_colored() -> None:
    heat = torch.zeros(8, 8)
    heat[:4, :4] = 1
    pixels = overlay(Image.new("RGB", (64, 64), (90, 120, 60)), heat)
    red, green, blue = pixels.getpixel((8, 8))  # type: ignore[misc]
    assert red > green
    assert red > blue
    assert len(set(pixels.getpixel((60, 60)))) == 1, "gray"  # type: ignore[arg-type]


@pytest.mark.pictures
def test_predict_explains_the_labels(script: Command, run_copy: Path, tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{number}.png" for number in range(3)))
    (tmp_path / "d.png").write_text("no picture")
    answer = script("predict", f"run={run_copy}", f"images={tmp_path}", "explain=true", "trainer.accelerator=cpu",
                    "num_workers=0")  # fmt: skip
    assert answer.code == 1, "one file cannot be read"
    assert f"{run_copy.name}/explanations.png" in answer.out
    with Image.open(run_copy / "explanations.png") as image:
        assert image.width > 6 * 130, "three pictures, each next to its heat map"


@pytest.mark.pictures
def test_eval_explains_the_most_confident_mistakes(script: Command, run_copy: Path) -> None:
    answer = script("eval", f"run={run_copy}", "explain=true", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    assert f"{run_copy.name}/mistakes_explained.png" in answer.out
    with Image.open(run_copy / "mistakes_explained.png") as image:
        assert image.width > 9 * 130


def test_a_wrong_value_of_explain_is_refused(script: Command, run_copy: Path) -> None:
    for name in ("predict", "eval"):
        answer = script(name, f"run={run_copy}", "explain=maybe", *(["images=x.png"] * (name == "predict")))
        assert answer.code == 2
        assert answer.err.startswith("error: explain=maybe: "), answer.err
