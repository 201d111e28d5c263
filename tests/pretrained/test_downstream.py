"""What people do with a trained network of timm or torchvision: evaluate, predict, export, load, sweep, look at it."""

import csv
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import (
    NO_PICTURES,
    Command,
    Process,
    WholeRuns,
    killed_run,
    read_summary,
    run_code,
    run_here,
    sample_datamodule,
)
from PIL import Image, ImageOps
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.inference.export import TOLERANCE
from pytorch_intro.inference.load import Predictor, load_run
from pytorch_intro.pretrained.network import Choice, PretrainedNetwork
from pytorch_intro.pretrained.timm_network import TimmNetwork
from pytorch_intro.pretrained.torchvision_network import TorchvisionNetwork

FEW = [
    "data=folder", "data.test_fraction=0.5", "data.batch_size=4", "trainer=cpu", "trainer.max_epochs=1",
    "trainer.limit_train_batches=2", "optimizer=adamw", "model.weights=null",
]  # fmt: skip
VIT = ["model=timm", "model.name=vit_tiny_patch16_224", "+model.kwargs.depth=1", "data.image_size=32"]
# Small networks that differ: without a linear head, with squeeze-and-excitation, attention or windows.
NETWORKS = {
    "squeezenet of torchvision": [
        "model=torchvision", "model.name=squeezenet1_1", "data.image_size=32", "data.decode_size=40",
        "data.interpolation=lanczos",
    ],
    "efficientnet": ["model=timm", "model.name=test_efficientnet", "data.image_size=[32,48]", "data.crop_pct=0.8"],
    "vit in bfloat16 with a flip": [
        *VIT, "trainer.precision=bf16-mixed", "data.interpolation=bicubic", "classifier.tta_flip=true",
    ],
    "swin": [
        "model=timm", "model.name=swin_tiny_patch4_window7_224", "+model.kwargs.depths=[2]",
        "+model.kwargs.num_heads=[3]", "data.image_size=64", "data.resize=pad", "data.crop_pct=0.9",
        "data.decode_size=80",
    ],
}  # fmt: skip


class Used(NamedTuple):
    """A run folder, and what export.py printed."""

    run: Path
    exported: str


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 16 pictures, not square, in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(16):
        pixels = random.integers(0, 256, (5, 7, 3), dtype=np.uint8) // (1 + number % 2)
        file = folder / "data" / ("bright", "dark")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((97, 61)).save(file)
    return folder


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda name: name.replace(" ", "-"))
def used(request: pytest.FixtureRequest, photos: Path) -> Used:
    """Train, evaluate and export a network; a warning would be an error."""
    name = request.param.replace(" ", "_")
    run = photos / name
    common = [*FEW, *NETWORKS[request.param], f"data.root={photos / 'data'}", f"outputs={photos}", f"name={name}"]
    run_here("train", *common)
    run_here("eval", f"run={run}")
    return Used(run, exported=run_here("export", f"run={run}"))


@pytest.fixture(scope="module")
def pictures(photos: Path) -> Path:
    """Return a folder of pictures that need every step of the preprocessing: rotated, transparent, 16 bits, large."""
    folder = photos / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (9, 13, 4), dtype=np.uint8)
    large = Image.fromarray(noise[..., :3]).resize((650, 450), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    large.save(folder / "rotated.jpg", exif=exif)
    Image.fromarray(noise).resize((130, 90)).save(folder / "transparent.png")
    large.convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 256).save(folder / "16-bit.png")
    return folder


def test_eval_repeats_the_result_of_the_test(used: Used) -> None:
    result, again = (json.loads((used.run / name).read_text()) for name in ("result.json", "eval.json"))
    assert again["test/accuracy"] == result["test/accuracy"]
    assert again["test/loss"] == pytest.approx(result["test/loss"], rel=1e-5)


def test_export_agrees_with_pytorch(used: Used) -> None:
    found = re.findall(r"(\S+) +agrees with PyTorch on 8 test images \(probabilities to (\S+), all lab", used.exported)
    assert [name for name, _ in found] == ["model.onnx", "model.pt2"]
    assert all(float(difference) <= TOLERANCE for _, difference in found)


def test_a_stranger_with_pillow_and_onnx_runtime_gets_what_predict_says(used: Used, pictures: Path) -> None:
    """The steps in labels.json are Python: with them alone, label and probability are those of predict.py."""
    run_here("predict", f"run={used.run}", f"images={pictures}", "num_workers=0")
    with (used.run / "predictions.csv").open() as table:
        predicted = {Path(row["path"]).name: (row["label"], float(row["probability"])) for row in csv.DictReader(table)}
    labels = json.loads((used.run / "export" / "labels.json").read_text())
    session = onnxruntime.InferenceSession(used.run / "export" / "model.onnx")
    for file in pictures.iterdir():
        names: dict[str, Any] = {"Image": Image, "ImageOps": ImageOps, "numpy": np, "image": Image.open(file)}
        for step in labels["input"]["steps"]:
            exec(step, names)
        assert names["images"].dtype == np.uint8
        assert list(names["images"].shape) == [1, *labels["input"]["shape"][1:]]
        (probabilities,) = session.run(["probabilities"], {"images": names["images"]})[0]
        label, probability = predicted.pop(file.name)
        assert labels["classes"][probabilities.argmax()] == label
        assert probabilities.max() == pytest.approx(probability, abs=TOLERANCE)
    assert not predicted


def test_load_run_gives_the_probabilities_of_the_export(used: Used, pictures: Path) -> None:
    network, classes, transforms = load_run(used.run)
    assert classes == ["bright", "dark"]
    model = torch.export.load(used.run / "export" / "model.pt2").module()
    with Image.open(pictures / "rotated.jpg") as image, torch.inference_mode():
        stored = torch.from_numpy(transforms.decoder(image.copy()))[None]
        loaded = network(transforms(image)[None]).softmax(dim=1)
        assert torch.allclose(loaded, model(stored), atol=TOLERANCE)
        assert torch.equal(loaded, Predictor(load_run(used.run))(stored))


RUN_PROGRAM = """
import contextlib, runpy, sys
sys.argv = {arguments}
with open({out!r}, "w") as file, contextlib.redirect_stdout(file):
    runpy.run_path(sys.argv[0], run_name="__main__")
assert "pytorch_intro" not in sys.modules
"""


def test_the_documented_safetensors_program_gives_the_probability_of_predict(
    photos: Path, pictures: Path, tmp_path: Path
) -> None:
    """The program in docs/using.md runs unchanged, in a process that does not import this project."""
    run = tmp_path / "run"
    network = NETWORKS["efficientnet"]
    data = ["data.resize=crop", "data/augment=[]", f"data.root={photos / 'data'}"]  # no padding and no second view
    run_here("train", *FEW, *network, *data, f"outputs={tmp_path}", "name=run", *NO_PICTURES)
    assert "safetensors  " in run_here("export", f"run={run}", "formats=[safetensors]")
    run_here("predict", f"run={run}", f"images={pictures / 'rotated.jpg'}", "num_workers=0")
    (row,) = csv.DictReader((run / "predictions.csv").read_text().splitlines())
    _, code = re.findall(r"```python\n(import json\n.*?)```", (PROJECT / "docs" / "using.md").read_text(), re.DOTALL)
    (tmp_path / "use_weights.py").write_text(code)
    files = [tmp_path / "use_weights.py", run / "export" / "model.safetensors", pictures / "rotated.jpg"]
    assert run_code(RUN_PROGRAM.format(arguments=[*map(str, files)], out=str(tmp_path / "out"))) == 0
    label, probability = (tmp_path / "out").read_text().split()
    assert label == row["label"]
    assert float(probability) == pytest.approx(float(row["probability"]), abs=0.01)  # the decoder drafts JPEG files


def test_the_log_has_no_warnings(used: Used) -> None:
    log = (used.run / "train.log").read_text()
    assert " INFO " in log
    assert not re.findall(r".* (?:WARNING|ERROR) .*", log)


def test_the_card_describes_network_weights_and_input(used: Used) -> None:
    card = (used.run / "README.md").read_text()
    assert re.search(r"\| started from +\| random weights +\|", card), card
    inputs = load_run(used.run).transforms
    stored, size = (" x ".join(map(str, shape)) for shape in (inputs.decoder.size, inputs.center_crop.size))
    assert f"resized to {stored} pixels ({inputs.decoder.resize}, {inputs.decoder.interpolation})" in card
    assert f"images of {size} pixels" in card
    assert (f"height and width, as {size}" in card) == (stored != size)


def test_tensorboard_has_the_graph_with_the_blocks_of_the_network(used: Used) -> None:
    events = EventAccumulator(str(next(used.run.rglob("events.out.tfevents*")).parent)).Reload()
    assert {"train/images", "train/augmented", "test/mistakes"} <= {*events.Tags()["images"]} | {"test/mistakes"}
    nodes = [node.name for node in events.Graph().node]
    assert any(name in nodes[-1] for name in ("Linear[head]", "SqueezeNet[body]"))
    assert any(name.count("/") >= 3 for name in nodes), nodes[:20]


PLAIN = [*NO_PICTURES, "logger=none", "data.image_size=32"]


def test_a_sweep_over_both_libraries_trains_a_network_of_each(command: Command, photos: Path, tmp_path: Path) -> None:
    common = ["-m", *FEW, *PLAIN, f"data.root={photos / 'data'}", "model=timm,torchvision", "name=both"]
    answer = command(*common, "model.name=resnet18")
    assert answer.code == 2
    assert "in a sweep over model, use ++model.name=VALUE" in answer.err
    answer = command(*common, "++model.name=resnet18")
    assert answer.code == 0, answer.err
    rows = read_summary(tmp_path / "outputs" / "sweeps" / "both")
    assert sorted((row["job"], row["status"]) for row in rows) == [
        ("model=timm", "finished"),
        ("model=torchvision", "finished"),
    ]


def test_two_processes_train_all_layers_of_a_transformer(photos: Path, tmp_path: Path) -> None:
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "name=two", f"outputs={tmp_path}"]
    arguments = [*FEW, *VIT, *NO_PICTURES, f"data.root={photos / 'data'}", "data.val_fraction=0.4"]
    process = Process(*arguments, *two, variables={"OMP_NUM_THREADS": "1"}, processes=1)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads((tmp_path / "two" / "result.json").read_text())["status"] == "finished"
    network, *_ = load_run(tmp_path / "two")
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_small_images_are_enlarged_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Those of Fashion-MNIST, for a network that expects photographs."""
    caplog.set_level(logging.INFO)
    sample_datamodule("data.image_size=64", "data.crop_pct=0.8")
    assert "data: enlarging images of 28 x 28 to 80 x 80; a smaller data.image_size is faster" in caplog.messages
    caplog.clear()
    sample_datamodule("data.image_size=48")
    assert not [message for message in caplog.messages if "enlarging" in message]


def random_weights(
    self: PretrainedNetwork, choice: Choice, image_shape: Any, arguments: Any
) -> dict[str, torch.Tensor]:
    return self.build(choice, image_shape, 1000, arguments).state_dict()


def test_the_card_names_the_source_and_license_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, name, expected in [
        (
            TimmNetwork,
            "test_resnet",
            r"test_resnet\.r160_in1k of timm \(huggingface\.co/timm/.*\), license: apache-2.0",
        ),
        (
            TorchvisionNetwork,
            "resnet18",
            r"resnet18\.IMAGENET1K_V1 of torchvision \(https://.*\), license: not stated .*",
        ),
    ]:
        monkeypatch.setattr(library, "download", random_weights)
        network = library(name=name, image_shape=(3, 32, 32), num_classes=2)
        assert re.fullmatch(expected, network.origin)


def test_resume_of_a_transformer_after_kill_gives_identical_weights(
    command: Command, whole_runs: WholeRuns, photos: Path, tmp_path: Path
) -> None:
    arguments = [*FEW, *VIT, *PLAIN, f"data.root={photos / 'data'}", "model.kwargs.drop_path_rate=0.3"]
    arguments += ["trainer.max_epochs=2", "callbacks.checkpoint.every_n_minutes=1e-9"]
    whole = whole_runs(*arguments)
    run = shutil.copytree(killed_run(whole, 3), tmp_path / "outputs" / "killed")
    answer = command(*arguments, "name=killed")
    assert answer.code == 0, answer.err
    assert "resuming from" in (run / "train.log").read_text()
    expected, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, run)
    )
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())
