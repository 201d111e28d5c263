"""src/export.py writes models that run without this project and agree with PyTorch."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
from conftest import Command, compose, run_code, run_here, sample_datamodule
from explained import assert_explained
from PIL import Image
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.inference import eval_data
from pytorch_intro.inference import formats as exporting
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.inference.load import Predictor, load_run
from pytorch_intro.training.weights import build_network


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was copied elsewhere and exported there."""
    run = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(finished_run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        out = run_here("export", f"run={run}")
    assert re.search(r"model.onnx +agrees with PyTorch on 400 test images", out), out
    assert re.search(r"model.pt2 +agrees with PyTorch on 400 test images", out)
    assert re.search(r"400 test images +accuracy +same label +max. difference +MB +images/s on the CPU\n", out)
    for name in ("PyTorch", "onnx", "pt2"):
        assert re.search(rf"^  {name} +\d+\.\d\d% +100\.00% +\S+e[-+]\d+ +[\d.]* +[\d,]+$", out, re.MULTILINE), out
    assert sorted(path.name for path in (run / "export").iterdir()) == ["labels.json", "model.onnx", "model.pt2"]
    assert not list(run.glob(".export*"))
    return run


def test_onnx_runtime_agrees_with_pytorch_for_any_batch_size(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "export" / "model.onnx")
    (model_input,), (model_output,) = session.get_inputs(), session.get_outputs()
    assert (model_input.name, model_input.type, model_input.shape[1:]) == ("images", "tensor(uint8)", [1, 28, 28])
    assert isinstance(model_input.shape[0], str)
    assert (model_output.name, model_output.type, model_output.shape[1:]) == ("probabilities", "tensor(float)", [10])
    datamodule = sample_datamodule()
    assert datamodule.test_set
    predictor = Predictor(load_run(exported))
    for size in (1, 2, 33):
        images = datamodule.test_set.__getitems__(range(size))[0]
        with torch.no_grad():
            expected = predictor(images).numpy()
        np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize("side", [(8, 8), (3, 3), (12, 9), (7, 20), (3, 1)])
@pytest.mark.parametrize("size", [(3, 3), (1, 1), (2, 4)])
def test_the_windows_of_an_exported_network_are_those_of_pytorch(side: tuple[int, int], size: tuple[int, int]) -> None:
    """Also where the number of windows does not divide the side, so that they overlap or repeat."""
    x = torch.randn(2, 3, *side, generator=torch.Generator().manual_seed(0))
    assert torch.equal(exporting.adaptive_max_pool2d(x, size)[0], nn.functional.adaptive_max_pool2d(x, size))


def test_the_default_network_can_be_exported_for_images_of_any_size(tmp_path: Path) -> None:
    """ONNX has no pooling to 3 x 3 for maps of 4 x 5, which are those of 32 x 40 pixels."""
    network = build_network(compose().model, (3, 32, 40), 10).eval()
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(network, (images,), dynamic_shapes=[{0: torch.export.Dim("N")}])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        exporting.write_onnx(program, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(logits, network(images).detach().numpy(), atol=1e-4)


def test_model_pt2_runs_without_this_project(exported: Path) -> None:
    """A process that imports only torch computes the probabilities of one image and of three images."""
    code = (
        "import sys, torch\n"
        f"model = torch.export.load({str(exported / 'export' / 'model.pt2')!r}).module()\n"
        "for size in (1, 3):\n"
        "    sums = model(torch.zeros(size, 1, 28, 28, dtype=torch.uint8)).sum(dim=1)\n"
        "    assert sums.shape == (size,) and (sums - 1).abs().max() < 1e-5\n"
        "assert 'pytorch_intro' not in sys.modules\n"
    )
    assert run_code(code) == 0


def test_labels_json_describes_input_and_output(exported: Path) -> None:
    content = json.loads((exported / "export" / "labels.json").read_text())
    assert content["classes"] == load_run(exported).classes
    assert content["input"]["shape"] == ["N", 1, 28, 28]
    assert content["input"]["channels"] == "gray"
    assert content["temperature"] == load_run(exported).temperature
    assert content["result"] == json.loads((exported / "result.json").read_text())


def test_the_documented_onnx_program_prints_the_label_of_predict(
    exported: Path, script: Command, tmp_path: Path
) -> None:
    """The program in docs/using.md runs unchanged, and imports only onnxruntime, numpy and Pillow."""
    (code, _) = re.findall(r"```python\n(import json\n.*?)```", (PROJECT / "docs" / "using.md").read_text(), re.DOTALL)
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert imported == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    datamodule = sample_datamodule()
    assert datamodule.test_set
    picture = tmp_path / "picture.png"
    Image.fromarray(datamodule.test_set[0][0][0].numpy()).save(picture)
    (tmp_path / "use.py").write_text(code)
    process = subprocess.run(
        [sys.executable, str(tmp_path / "use.py"), str(exported / "export"), str(picture)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    answer = script("predict", f"run={exported}", f"images={picture}")
    label = (exported / "predictions.csv").read_text().splitlines()[1].split(",")[1]
    assert answer.code == 0
    assert label in process.stdout


def replace_output(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change the probabilities that a format has when it is compared with PyTorch."""
    old = exporting.FORMATS[name]

    def load(file: Path, predictor: Predictor) -> Any:
        function = old.load(file, predictor)
        return lambda images: change(function(images))

    monkeypatch.setitem(exporting.FORMATS, name, old._replace(load=load))


def copy_instead_of_writing(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """Take the files of an earlier export of the same run, with the ONNX model as that of 8-bit integers."""

    def write(formats: list[str], predictor: Predictor, folder: Path, *_: Any) -> None:
        for name in formats:
            source = "model.onnx" if name == "onnx_int8" else exporting.FORMATS[name].files[0]
            shutil.copy(exported / "export" / source, folder / exporting.FORMATS[name].files[0])

    monkeypatch.setattr(exporting, "write_formats", write)


def test_a_model_that_disagrees_with_pytorch_is_not_written(
    script: Command, exported: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier export stays, and no partial files are left."""
    (run_copy / "export").mkdir()
    (run_copy / "export" / "labels.json").write_text("earlier")
    replace_output(monkeypatch, "onnx", lambda probabilities: probabilities * 0.999)
    copy_instead_of_writing(monkeypatch, exported)
    answer = script("export", f"run={run_copy}")
    assert answer.code == 2
    assert re.search(
        r"error: model.onnx: disagrees with PyTorch on \d+ test images .*; use another model",
        answer.err,
    )
    assert [path.name for path in (run_copy / "export").iterdir()] == ["labels.json"]
    assert not list(run_copy.glob(".export*"))


def test_an_export_replaces_its_own_files_alone(
    script: Command, exported: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes and folders of the user stay; the model of another format does not."""
    copy_instead_of_writing(monkeypatch, exported)
    folder = run_copy / "export"
    (folder / "more").mkdir(parents=True)
    for name in ("notes.txt", ".hidden", "more/notes.txt", "model.pt2", "labels.json"):
        (folder / name).write_text("mine")
    answer = script("export", f"run={run_copy}", "formats=[onnx]", "num_images=64")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in folder.iterdir()) == [
        ".hidden", "labels.json", "model.onnx", "more", "notes.txt",
    ]  # fmt: skip
    assert all((folder / name).read_text() == "mine" for name in ("notes.txt", ".hidden", "more/notes.txt"))
    assert answer.out.endswith("export/labels.json, " + os.path.relpath(folder / "model.onnx") + "\n")
    assert not list(run_copy.glob(".export*"))


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_an_export_does_not_replace_a_link_or_a_file(kind: str, script: Command, run_copy: Path) -> None:
    target = run_copy / "elsewhere"
    if kind == "file":
        (run_copy / "export").write_text("mine")
    else:
        (run_copy / "export").symlink_to(target)
    if kind == "link":
        target.mkdir()
    before = sorted(run_copy.iterdir())
    answer = script("export", f"run={run_copy}")
    assert answer.code == 2
    assert_explained(answer.err, [], [f"{run_copy / 'export'}: "], f"is a {kind.split()[-1]}, not a folder", "move or")
    assert sorted(run_copy.iterdir()) == before


def test_a_format_that_loses_accuracy_is_refused_and_the_others_are_written(
    script: Command, exported: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_output(monkeypatch, "onnx_int8", lambda probabilities: probabilities.roll(1, dims=1))
    copy_instead_of_writing(monkeypatch, exported)
    answer = script("export", f"run={run_copy}", "formats=[onnx,onnx_int8]", "num_images=64")
    assert answer.code == 1
    assert len(re.findall(r"^data: .* training \d", answer.out, re.MULTILINE)) == 1, "the data is opened once"
    (line,) = re.findall(r"^error: .*", answer.err, re.MULTILINE)
    assert re.fullmatch(
        r"error: formats=onnx_int8: the accuracy drops from \S+% to \S+%, more than max_accuracy_drop=0.005, so it was "
        r"not written; leave it out, or set max_accuracy_drop=(0\.\d+)",
        line,
    )
    assert sorted(path.name for path in (run_copy / "export").iterdir()) == ["labels.json", "model.onnx"]
    assert set(json.loads((run_copy / "export" / "labels.json").read_text())["formats"]) == {"PyTorch", "onnx"}
    allowed = line.split("set ")[-1]
    assert script("export", f"run={run_copy}", "formats=[onnx_int8]", "num_images=64", allowed).code == 0
    assert sorted(path.name for path in (run_copy / "export").iterdir()) == ["labels.json", "model_int8.onnx"]
    answer = script("export", f"run={run_copy}", "formats=[onnx_int8]", "num_images=64")
    assert answer.code == 2, "no format is left"
    assert (run_copy / "export" / "model_int8.onnx").exists(), "the earlier export stays"


@pytest.fixture(scope="module")
def small(finished_run: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was exported to the formats that are not the default, from its ONNX model."""
    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("small") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "export_program", lambda _: None)
        patch.setattr(exporting, "write_onnx", lambda _, file: shutil.copy(exported / "export" / "model.onnx", file))
        run_here("export", f"run={run}", "formats=[onnx_int8,openvino,safetensors]")
    assert sorted(path.name for path in (run / "export").iterdir()) == [
        "labels.json", "model.bin", "model.safetensors", "model.xml", "model_int8.onnx",
    ]  # fmt: skip
    return run


def test_8_bit_integers_take_less_than_half_the_space_and_give_the_same_labels(small: Path, exported: Path) -> None:
    """The preprocessing is inside the model: it takes the same uint8 images, any number of them."""
    file = small / "export" / "model_int8.onnx"
    assert file.stat().st_size < 0.5 * (exported / "export" / "model.onnx").stat().st_size
    session, exact = (onnxruntime.InferenceSession(path) for path in (file, exported / "export" / "model.onnx"))
    datamodule = sample_datamodule()
    assert datamodule.test_set
    for size in (1, 200):
        images = datamodule.test_set.__getitems__(range(size))[0].numpy()
        probabilities = session.run(["probabilities"], {"images": images})[0]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    labels = [model.run(None, {"images": images})[0].argmax(axis=1) for model in (session, exact)]
    assert (labels[0] == labels[1]).mean() > 0.95
    weights = [tensor for tensor in onnx.load(file).graph.initializer if tensor.name.endswith("_quantized")]
    large = [onnx.numpy_helper.to_array(tensor) for tensor in weights if tensor.data_type == onnx.TensorProto.INT8]
    assert large
    assert all(abs(values.astype(int)).max() <= 64 for values in large), "7 bits do not overflow on any CPU"
    formats = json.loads((small / "export" / "labels.json").read_text())["formats"]
    assert set(formats) == {"PyTorch", "onnx_int8", "openvino", "safetensors"}
    assert formats["onnx_int8"]["files"] == ["model_int8.onnx"]
    assert formats["onnx_int8"]["agreement"] > 0.95
    assert formats["PyTorch"]["accuracy"] - formats["onnx_int8"]["accuracy"] <= 0.005
    assert formats["onnx_int8"]["size_mb"] == pytest.approx(file.stat().st_size / 1e6)
    assert formats["safetensors"]["accuracy"] == formats["PyTorch"]["accuracy"]


def test_the_ranges_of_8_bit_integers_come_from_training_images_alone(finished_run: Path) -> None:
    run = FinishedRun(finished_run, parts=["model", "classifier", "data"])
    images = eval_data.calibration_images(eval_data.own_training_images(run))
    again = eval_data.images_to_compare(run, 1, is_external=False).train_set
    assert again
    assert torch.equal(images, eval_data.calibration_images(again)), "the same images each time"
    datamodule = sample_datamodule()
    assert datamodule.train_set
    training = {
        image.numpy().tobytes() for image in datamodule.train_set.__getitems__(range(len(datamodule.train_set)))[0]
    }
    assert len(images) == 300
    assert {image.numpy().tobytes() for image in images} <= training


def test_safetensors_has_the_tested_weights_and_what_a_program_needs(small: Path) -> None:
    network, classes, _ = load_run(small)
    with safetensors.safe_open(small / "export" / "model.safetensors", "pt") as file:
        description = json.loads(file.metadata()["description"])
        state = network.network.state_dict()
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in state.items())
    assert description["classes"] == classes
    assert description["input"]["center_crop"] == [28, 28]
    assert description["network"]["config"]["_target_"] == "pytorch_intro.models.cnn.CNN"


def test_openvino_gives_the_labels_of_pytorch(small: Path) -> None:
    """The comparison loads the files in OpenVINO itself; the drop is the largest that is accepted by default."""
    assert json.loads((small / "export" / "labels.json").read_text())["formats"]["openvino"]["agreement"] > 0.95


def test_the_accuracy_of_a_format_that_may_lose_some_needs_test_images(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = eval_data.ImagesToCompare(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), None, "random images")
    monkeypatch.setattr(eval_data, "images_to_compare", lambda *_, **__: random)
    answer = script("export", f"run={run_copy}", "formats=[onnx,onnx_int8]")
    assert answer.code == 2
    assert answer.err.startswith("error: formats=onnx_int8: its accuracy cannot be measured without the test images")
    assert "data.root=DIR" in answer.err
    assert not (run_copy / "export").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("formats=[onnx,tflite]", r"formats=tflite: no such format; choose from onnx, pt2, onnx_int8, openvino, safe"),
        ("formats=[]", r"formats=\[\]: no format to write; choose from onnx,"),
        ("max_accuracy_drop=5", r"max_accuracy_drop=5: .*1"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(
    script: Command, run_copy: Path, argument: str, message: str
) -> None:
    answer = script("export", f"run={run_copy}", argument)
    assert answer.code == 2
    assert re.fullmatch(rf"error: {message}.*\n", answer.err), answer.err
    assert not (run_copy / "export").exists()


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :10]
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_cannot_be_exported_is_reported_with_the_reason(finished_run: Path, tmp_path: Path) -> None:
    """The line contains torch's reason, not the name of the exporter's step."""
    predictor = Predictor(load_run(finished_run))
    predictor.network.network = Branching()
    with pytest.raises(UserError, match=r"model: Branching cannot be exported \(.*data-dependent.*\); avoid") as error:
        exporting.write_formats(["pt2"], predictor, tmp_path, None, {})
    assert "\n" not in str(error.value)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 1 MB, if mounting is allowed."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", exporting.FORMATS)
def test_a_full_disk_is_not_blamed_on_the_network(
    name: str, exported: Path, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writer raises the error of the system; torch, OpenVINO and safetensors have their own."""
    (tiny_disk / "large").write_bytes(bytes(200_000 if name in ("onnx_int8", "openvino") else 600_000))
    monkeypatch.setattr(exporting, "export_program", lambda _: torch.export.load(exported / "export" / "model.pt2"))
    monkeypatch.setattr(exporting, "write_onnx", lambda _, file: shutil.copy(exported / "export" / "model.onnx", file))
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(OSError, match="No space left on device"):
        exporting.write_formats([name], Predictor(load_run(exported)), tiny_disk, images, {})


def test_a_full_disk_is_one_line(script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(exporting, "write_formats", write)
    answer = script("export", f"run={run_copy}")
    assert answer.code == 1
    assert_explained(answer.err, [], [str(run_copy)], "the disk is full", "free some space")
    assert not list(run_copy.glob("*export*"))


def test_files_follow_the_umask(exported: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for file in (*(exported / "export").iterdir(), *(small / "export").iterdir()):
        assert file.stat().st_mode == (tmp_path / "file").stat().st_mode, file


@pytest.mark.parametrize(("name", "extra"), [("onnx", "export"), ("safetensors", "export"), ("openvino", "openvino")])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    missing = exporting.FORMATS[name]._replace(packages=("json", "no_such_package"))
    monkeypatch.setitem(exporting.FORMATS, name, missing)
    answer = script("export", f"run={run_copy}", f"formats=[{name}]")
    assert answer.code == 2
    install = rf"(-r requirements-{extra}\.txt|'pytorch-intro\[{extra}\]')"
    assert re.fullmatch(
        rf"error: formats={name}: no_such_package not installed; run pip install {install}\n", answer.err
    )
    assert not (run_copy / "export").exists()
