"""Training starts from the weights of a file or of a finished run, completely or not at all."""

import copy
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, compose, run_here
from omegaconf import OmegaConf
from torch import nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.training.setup import build_datamodule
from pytorch_intro.training.weights import adapt_channels, build_network, read_weights

SHAPE = (1, 28, 28)


def network(
    weights: object,
    *overrides: str,
    num_classes: int = 10,
    image_shape: tuple[int, int, int] = SHAPE,
    classes: Sequence[str] | None = None,
) -> Any:
    config = compose(f"model.weights={weights}", *overrides).model
    return build_network(config, image_shape, num_classes, classes=classes)


def is_equal(first: nn.Module, second: nn.Module, without: str = "nothing") -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().values(), strict=True)
    return all(torch.equal(value, other) for (name, value), other in pairs if without not in name)


@pytest.fixture(scope="module")
def donor() -> nn.Module:
    torch.manual_seed(1)
    return build_network(compose().model, SHAPE, 10)


WRAPPED = {
    "state dict": lambda tensors: tensors,
    "of another program": lambda tensors: {"epoch": 3, "model": tensors},
    "of torch.compile and DataParallel": lambda tensors: {f"module._orig_mod.{key}": t for key, t in tensors.items()},
    "of a LightningModule": lambda tensors: {"state_dict": {f"network.{key}": t for key, t in tensors.items()}},
}


@pytest.mark.parametrize("kind", [*WRAPPED, "safetensors"])
def test_a_file_is_loaded_with_or_without_common_wrappers(kind: str, donor: nn.Module, tmp_path: Path) -> None:
    file = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(donor.state_dict(), file)
    else:
        torch.save(WRAPPED[kind](donor.state_dict()), file)
    assert is_equal(network(file), donor)
    assert not is_equal(network("null"), donor)


def test_tensors_with_other_names_are_loaded_by_their_order(
    donor: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.save({f"t{number}": tensor for number, tensor in enumerate(donor.state_dict().values())}, tmp_path / "w.pt")
    assert is_equal(network(tmp_path / "w.pt"), donor)
    assert "by their order" in caplog.text


def test_weights_of_another_network_are_refused_with_what_differs(donor: nn.Module, tmp_path: Path) -> None:
    torch.save(donor.state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"does not fit ResNet, nothing was loaded \(\d+ missing: stem.*; use"):
        network(tmp_path / "w.pt", "model=resnet")
    with pytest.raises(UserError, match=r"of another shape: layers.*model of|does not fit CNN"):
        network(tmp_path / "w.pt", "model.width=8")


def test_a_head_for_other_classes_needs_permission(donor: nn.Module, tmp_path: Path) -> None:
    torch.save(donor.state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        UserError, match=r"the head is for other classes .*\(10, 256\) instead of \(7, 256\).*new_head="
    ):
        network(tmp_path / "w.pt", num_classes=7)
    assert is_equal(new := network(tmp_path / "w.pt", "model.new_head=true", num_classes=7), donor, without="layers.13")
    assert new.layers[-1].weight.shape == (7, 256)
    assert not is_equal(network(tmp_path / "w.pt", "model.new_head=true"), donor)  # new for the same classes, too


LETTERS = list("abcdefghij")


@pytest.fixture
def saved(donor: nn.Module, tmp_path: Path) -> Path:
    """Return a checkpoint file of the donor with the names of its ten classes."""
    state = {f"network.{name}": tensor for name, tensor in donor.state_dict().items()}
    content = {"state_dict": state, "datamodule_hyper_parameters": {"classes": LETTERS}}
    torch.save(content, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_a_head_for_the_same_classes_is_kept_in_any_order(saved: Path, donor: nn.Module) -> None:
    """Its outputs get the order of the data."""
    images = torch.rand(2, *SHAPE)
    same = network(saved, classes=LETTERS).eval()
    other_order = network(saved, classes=list("jbcdefghia")).eval()
    with torch.no_grad():
        expected = copy.deepcopy(donor).eval()(images)
        assert torch.equal(same(images), expected)
        assert torch.allclose(other_order(images), expected[:, [9, 1, 2, 3, 4, 5, 6, 7, 8, 0]], atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "differences"),
    [
        ("abcdefghix", "only in the weights: j; only in the data: x"),
        ("vwxyzfghij", "only in the weights: a, b, c, …; only in the data: v, w, x, …"),
        ("abcdefghijk", "only in the data: k"),
        ("abc", "only in the weights: d, e, f, …"),
    ],
)
def test_a_head_for_classes_with_other_names_needs_permission(
    saved: Path, donor: nn.Module, classes: str, differences: str
) -> None:
    """For as many classes, too."""
    with pytest.raises(UserError) as caught:
        network(saved, num_classes=len(classes), classes=list(classes))
    assert str(caught.value) == (
        f"model.weights={saved}: the head is for other classes ({differences}); set model.new_head=true to train a new "
        "one"
    )
    new = network(saved, "model.new_head=true", num_classes=len(classes), classes=list(classes))
    assert is_equal(new, donor, without="layers.13")


def test_a_run_with_other_classes_is_refused_before_any_work(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    """As many classes, of which one has another name."""
    names = {name: name for name in FinishedRun(finished_run).inputs["classes"]} | {"Bag": "Purse"}
    renamed = "data.target_transform={" + ",".join(f"{old}:{new}" for old, new in names.items()) + "}"
    arguments = ["data=sample", "trainer=cpu", renamed, "name=other", f"model.weights={finished_run}"]
    answer = command(*arguments)
    assert answer.code == 2
    assert answer.err == (
        f"error: model.weights={finished_run}: the head is for other classes (only in the weights: Bag; only in the "
        "data: Purse); set model.new_head=true to train a new one\n"
    )
    assert not (tmp_path / "outputs" / "other").exists()
    answer = command(*arguments, "model.new_head=true", "trainer.fast_dev_run=true")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_first_convolution_answers_equal_channels_alike_for_any_number_of_them(channels: int) -> None:
    weight, gray = torch.rand(5, 3, 3, 3), torch.rand(2, 1, 8, 8)
    before = nn.functional.conv2d(gray.expand(-1, 3, -1, -1), weight)
    after = nn.functional.conv2d(gray.expand(-1, channels, -1, -1), adapt_channels(weight, channels))
    scale = 1 if channels in (1, 3) else (after / before).mean()
    assert torch.allclose(after, scale * before, rtol=0.6 if channels in (2, 4) else 1e-4)


def test_a_resnet_for_color_images_starts_from_one_for_gray_images(tmp_path: Path) -> None:
    gray = network("null", "model=resnet")
    torch.save(gray.state_dict(), tmp_path / "w.pt")
    color = network(tmp_path / "w.pt", "model=resnet", image_shape=(3, 28, 28)).eval()
    images = torch.rand(2, 1, 28, 28)
    assert torch.allclose(color(images.expand(-1, 3, -1, -1)), gray.eval()(images), atol=1e-5)


def test_half_precision_is_loaded_and_a_quantized_network_is_not(donor: nn.Module, tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in donor.state_dict().items()}, tmp_path / "w.pt")
    assert network(tmp_path / "w.pt").layers[-1].weight.dtype == torch.float32
    torch.save({name: tensor.to(torch.int8) for name, tensor in donor.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="contains tensors of type int8; use weights in floating point"):
        network(tmp_path / "w.pt")


class Code:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
def test_unusable_files_are_refused_in_one_line_and_no_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"layers": Code()}, "code.pt")
    torch.save({"epoch": 3}, "empty.pt")
    Path("page.pt").write_text("<!DOCTYPE html>")
    Path("start.pt").write_bytes(Path("empty.pt").read_bytes()[:300])
    os.mkfifo("pipe.pt")
    torch.jit.trace(nn.Linear(1, 1), torch.ones(1, 1)).save("program.pt")
    Path("text.safetensors").write_text("no weights")
    unfinished = Path(shutil.copytree(finished_run, "unfinished"))
    (unfinished / "result.json").unlink()
    problems = {
        "code.pt": "not loaded, as it .* could run code; save only the state dict",
        "program.pt": "not loaded, as it .* could run code; save only the state dict",
        "empty.pt": "contains no state dict; save one with",
        "page.pt": "not a PyTorch file .*; download it again",
        "start.pt": "cannot be read .*; copy it again",
        "pipe.pt": "not a regular file; use a .pt",
        "~nobody_of_this_name/x.pt": "no such file or folder; check the path",
        "x" * 300: "no such file or folder; check the path",
        "text.safetensors": "cannot be read .*; copy it again",
        "unfinished": "not a finished run .*; use another folder",
        "missing.pt": "no such file or folder; check the path",
    }
    for weights, problem in problems.items():
        with pytest.raises(UserError, match=f"model.weights={weights}: .*{problem}"):
            read_weights(weights)
    assert not Path("executed").exists()


def test_a_run_starts_from_a_finished_run_and_does_not_need_it_afterwards(
    command: Command, finished_run: Path, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(finished_run, tmp_path / "first"))
    arguments = ["data=sample", "trainer=cpu", f"model.weights={first}", "name=second", "optimizer.lr=0"]
    answer = command(*arguments, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    assert answer.code == 0, answer.err
    second = tmp_path / "outputs" / "second"
    log = (second / "train.log").read_text()
    assert f"input: 28 pixels, mean 0.286, std 0.353 (from the run {first})" in log
    assert f"weights: 23 of 23 tensors from {first}" in log
    shutil.rmtree(first)
    run_here("eval", f"run={second}")
    extended = command(f"resume={second}", "trainer.max_epochs=2")
    assert extended.code == 0, extended.err
    log = (second / "train.log").read_text()
    assert f"input: 28 pixels, mean 0.286, std 0.353 (from {second / 'checkpoints' / 'last.ckpt'})" in log
    assert log.count("weights: 23 of 23") == 1


def test_only_null_settings_of_the_data_come_from_the_weights(finished_run: Path) -> None:
    config = compose("data=sample", f"model.weights={finished_run}", "data.image_size=20", "data.mean=[0.5]")
    datamodule = build_datamodule(config)
    assert datamodule.image_shape == (1, 20, 20)
    assert datamodule.hparams["mean"] == [0.5]
    assert datamodule.hparams["std"] == FinishedRun(finished_run).inputs["std"]


def test_mean_and_std_of_the_dataset_give_way_to_those_of_the_weights(
    finished_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless the user sets them. Without weights, they are used instead of computed ones."""
    caplog.set_level(logging.INFO)
    own = ["data=sample", "data.dataset_mean=[0.1]", "data.dataset_std=[0.2]"]
    statistics = {
        name: tuple(build_datamodule(compose(*own, *more)).hparams[key][0] for key in ("mean", "std"))
        for name, more in {
            "weights": [f"model.weights={finished_run}"],
            "user": [f"model.weights={finished_run}", "data.mean=[0.3]", "data.std=[0.4]"],
            "dataset": [],
            "computed": ["data.dataset_mean=null", "data.dataset_std=null"],
        }.items()
    }
    assert statistics["weights"] == (0.286, 0.353)
    assert statistics["user"] == (0.3, 0.4)
    assert statistics["dataset"] == (0.1, 0.2)
    assert statistics["computed"] == pytest.approx((0.286, 0.353), abs=0.01)
    assert f"(from the run {finished_run}, instead of mean 0.1, std 0.2 of the dataset)" in caplog.text


def test_weights_are_accepted_for_a_class_of_ones_own_and_left_to_it_if_it_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from torch import nn
class Plain(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(784, num_classes))
class Takes(Plain):
    def __init__(self, image_shape, num_classes, weights=None):
        super().__init__(image_shape, num_classes)
        self.given = weights
"""
    (tmp_path / "own_networks.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = build_network(OmegaConf.create({"_target_": "own_networks.Plain"}), SHAPE, 10)
    torch.save(plain.state_dict(), tmp_path / "w.pt")
    node = {"_target_": "own_networks.Plain", "weights": str(tmp_path / "w.pt")}
    assert is_equal(build_network(OmegaConf.create(node), SHAPE, 10), plain)
    node |= {"_target_": "own_networks.Takes"}
    assert build_network(OmegaConf.create(node), SHAPE, 10).given == str(tmp_path / "w.pt")
    assert build_network(OmegaConf.create(node), SHAPE, 10, load_weights=False).given is None
