"""The networks learn, depend on the data's shape only, and create tensors on their input's device."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, compose, sample_datamodule
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from pytorch_intro.common.errors import UserError
from pytorch_intro.config import groups
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT
from pytorch_intro.models.cnn import CosineStem
from pytorch_intro.models.mlp import MLP
from pytorch_intro.training.metrics import EpochMetrics
from pytorch_intro.training.setup import dry_run
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


def test_documented_network_works_as_printed(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the class, the config file and the command of docs/training.md."""
    page = (PROJECT / "docs" / "training.md").read_text()
    chapter = page[page.index("## Your own network") :]
    blocks = [re.search(rf"```{kind}\n(.*?)```", chapter, re.DOTALL) for kind in ("python", "yaml", "bash")]
    code, config, line = [block[1] for block in blocks if block]
    (tmp_path / "tiny.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = Path(shutil.copytree(CONFIG_DIR, tmp_path / "conf"))
    (conf / "model" / "tiny.yaml").write_text(config)
    monkeypatch.setattr(groups, "CONFIG_DIRS", [conf])
    answer = command(*line.split()[2:], "trainer.max_epochs=1", "name=tiny")
    assert answer.code == 0, answer.err
    assert "width: 32" in (tmp_path / "outputs" / "tiny" / "config.yaml").read_text()
    wrong = command(*line.split()[2:], "model.width=wide")
    assert (wrong.code, wrong.err) == (2, "error: model.width=wide: invalid value; input should be a valid integer\n")


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


class Linear(nn.Linear):
    """A network of the user's, which gives only the logits of its first pixels."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(4, num_classes)

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.flatten(1)[:, :4])


class WithFeatures(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images), images


class Named(Linear):
    def forward(self, images: Tensor) -> Any:
        return {"logits": super().forward(images)}


class Frozen(Linear):
    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.requires_grad_(False)


class Detached(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).detach()


class Rounded(Linear):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images).long()


class Misspelled(Linear):
    def forward(self, images: Tensor) -> Any:
        return self.layer(images)  # type: ignore[operator]


def no_module(image_shape: tuple[int, int, int], num_classes: int) -> dict[str, int]:
    return {"classes": num_classes}


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("WithFeatures", r"returns a tuple, expected a tensor \(2, 10\); return the logits alone"),
        ("Named", r"returns a dict, expected a tensor \(2, 10\); return the logits alone"),
        ("Frozen", "depend on no parameter with requires_grad=True.*; add parameters, or remove"),
        ("Detached", "depend on no parameter with requires_grad=True.*; add parameters, or remove"),
        ("Rounded", "returns torch.int64 values, expected floating point; return the logits"),
        ("Misspelled", r"does not accept images of shape \(2, 1, 28, 28\) \(AttributeError: .*'layer'"),
        ("no_module", "a dict, not a torch.nn.Module; use a class derived from it"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(target: str, problem: str) -> None:
    node = OmegaConf.create({"_target_": f"{__name__}.{target}"})
    with pytest.raises(UserError, match=f"^model: .*{problem}"):
        dry_run(build_network(node, (1, 28, 28), 10), (1, 28, 28), 10)
    dry_run(Linear((1, 28, 28), 10), (1, 28, 28), 10)


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
