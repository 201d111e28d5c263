"""The networks learn, depend on the data's shape only, and create tensors on their input's device."""

import math

import pytest
import torch
from conftest import compose, sample_datamodule
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from pytorch_intro.config.paths import CONFIG_DIR
from pytorch_intro.models.cnn import CosineStem
from pytorch_intro.models.mlp import MLP
from pytorch_intro.training.metrics import EpochMetrics
from pytorch_intro.training.weights import build_network

MODELS = sorted(path.stem for path in (CONFIG_DIR / "model").glob("*.yaml") if "pretrained" not in path.read_text())


def network(model: str, image_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return build_network(compose(f"model={model}").model, image_shape, num_classes)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 32, 32), (1, 8, 12)])
def test_logits_have_their_shape_for_any_image_shape_and_number_of_classes(
    model: str, image_shape: tuple[int, int, int]
) -> None:
    assert network(model, image_shape, 7).eval()(torch.zeros(2, *image_shape)).shape == (2, 7)


@pytest.mark.parametrize("model", MODELS)
def test_initial_loss_is_that_of_a_uniform_guess(model: str) -> None:
    """About ln 10 on normalized images."""
    datamodule = sample_datamodule()
    images, targets = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    loss = cross_entropy(network(model).train()(images), targets)
    assert loss.item() == pytest.approx(math.log(10), abs=0.6)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_overfits_one_batch(model: str) -> None:
    """After 40 steps, all 16 images are classified correctly."""
    datamodule = sample_datamodule("data.batch_size=16")
    images, targets = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    learner = network(model).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    for _ in range(40):
        loss = cross_entropy(learner(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (learner(images).argmax(1) == targets).all()


def test_cosine_stem_equals_the_dct_of_patches_and_its_negative() -> None:
    """Orthonormal DCT-II of each channel; the untrained batch norm changes nothing in eval mode."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    components = CosineStem(3).eval()(images)
    patch = images[1, 2, 3:7, 1:5]  # with padding 1 and stride 2, patch (2, 1)
    waves = [[math.cos(math.pi * (2 * place + 1) * order / 8) for place in range(4)] for order in range(4)]
    transform = torch.tensor(waves) * torch.tensor([[0.25], [0.5], [0.5], [0.5]]).sqrt()
    expected = (transform @ patch @ transform.T).flatten()
    assert components.shape == (2, 96, 4, 4)
    torch.testing.assert_close(components[1, 32:48, 2, 1], expected.relu(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(components[1, 80:96, 2, 1], (-expected).relu(), rtol=1e-4, atol=1e-4)
    assert not list(CosineStem(3).parameters())


def test_mlp_equals_the_network_of_the_tutorial() -> None:
    """784-512-512-10 with ReLU in between: the same numbers as the layers written out."""
    mlp = MLP((1, 28, 28), 10)
    images = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    weights = list(mlp.parameters())
    x = images.flatten(1)
    for weight, bias in zip(weights[:4:2], weights[1:4:2], strict=True):
        x = (x @ weight.T + bias).clamp(min=0)
    torch.testing.assert_close(mlp(images), x @ weights[4].T + weights[5])
    assert sum(weight.numel() for weight in weights) == 669_706


class NoFloat64(TorchDispatchMode):
    """Fails on an operation that returns float64, which MPS lacks."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                assert tensor.dtype != torch.float64, func
        return result


@pytest.mark.parametrize("model", MODELS)
def test_transforms_network_loss_and_metrics_run_on_another_device_without_float64(model: str) -> None:
    """On the meta device, where a tensor on the wrong device is an error."""
    datamodule = sample_datamodule()
    batch = (
        torch.empty(4, 1, 28, 28, dtype=torch.uint8, device="meta"),
        torch.empty(4, dtype=torch.int64, device="meta"),
    )
    metrics = EpochMetrics().to("meta")
    with NoFloat64():
        images, targets = datamodule.on_after_batch_transfer(batch, 0)
        logits = network(model).to("meta")(datamodule.augment(images))
        loss = cross_entropy(logits, targets, label_smoothing=0.1)
        loss.backward()
        metrics.update(loss.detach(), logits.detach(), targets)
        assert all(value.device.type == "meta" for value in metrics.compute().values())
    assert logits.shape == (4, 10)
