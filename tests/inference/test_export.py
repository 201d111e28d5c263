"""src/export.py writes models that run without this project and agree with PyTorch."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Command, run_code, run_here, sample_datamodule
from PIL import Image
from torch import Tensor, nn

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.inference import export as exporting
from pytorch_intro.inference.load import Predictor, load_run


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
    assert re.search(r"images/s on the CPU: PyTorch [\d,]+, model.onnx [\d,]+, model.pt2 [\d,]+", out)
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
    (code,) = re.findall(r"```python\n(import json\n.*?)```", (PROJECT / "docs" / "using.md").read_text(), re.DOTALL)
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


def test_a_model_that_disagrees_with_pytorch_is_not_written(
    script: Command, exported: Path, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier export stays, and no partial files are left."""
    (run_copy / "export").mkdir()
    (run_copy / "export" / "labels.json").write_text("earlier")
    right = exporting.load_onnx

    def wrong(file: Path) -> Any:
        return lambda images: right(file)(images) * 0.999

    def copy_exported(_: Predictor, folder: Path) -> None:
        shutil.copytree(exported / "export", folder, dirs_exist_ok=True)

    monkeypatch.setattr(exporting, "load_onnx", wrong)
    monkeypatch.setattr(exporting, "export_model", copy_exported)  # the same network, exported before
    answer = script("export", f"run={run_copy}")
    assert answer.code == 2
    assert re.search(
        r"error: model.onnx: disagrees with PyTorch on \d+ test images .*; use another model",
        answer.err,
    )
    assert [path.name for path in (run_copy / "export").iterdir()] == ["labels.json"]
    assert not list(run_copy.glob(".export*"))


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :10]
        return logits if logits.sum() > 0 else -logits


def test_a_network_that_cannot_be_exported_is_reported_with_the_reason(finished_run: Path, tmp_path: Path) -> None:
    """The line contains torch's reason, not the name of the exporter's step."""
    predictor = Predictor(load_run(finished_run))
    predictor.network.network = Branching()
    with pytest.raises(UserError, match=r"model: Branching cannot be exported \(.*data-dependent.*\); avoid") as error:
        exporting.export_model(predictor, tmp_path)
    assert "\n" not in str(error.value)


def test_missing_packages_are_named_with_the_command_that_installs_them(
    script: Command, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PACKAGES", ("onnx", "no_such_package"))
    answer = script("export", f"run={run_copy}")
    assert answer.code == 2
    assert answer.err == (
        "error: exporting: no_such_package not installed; run pip install -r requirements-export.txt\n"
    )
    assert not (run_copy / "export").exists()
