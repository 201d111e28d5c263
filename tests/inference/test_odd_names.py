"""A finished run is used with any class names, and with as few classes and images as possible."""

import csv
import json
from pathlib import Path

import pytest
import torch
from conftest import Command, write_images

from pytorch_intro.inference.export import LABELS, describe
from pytorch_intro.inference.finished_run import FinishedRun


@pytest.mark.pictures
def test_a_run_of_two_classes_is_evaluated_used_for_one_image_and_exported(
    command: Command, script: Command, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    names = ["$x_1$ $\\frac", f"犬 שלום {'x' * 200}"]
    photos, run = tmp_path / "photos", tmp_path / "outputs" / "odd"
    for name in names:
        write_images(photos, *(f"{name}/{number}.png" for number in range(8)))
    answer = command("data=folder", f"data.root={photos}", "data.val_fraction=0.2", "data.test_fraction=0.2",
                     "data.image_size=16", "model=mlp", "trainer=cpu", "trainer.max_epochs=1", "callbacks.report=null",
                     "callbacks.tensorboard=null", "name=odd")  # fmt: skip
    assert answer.code == 0, answer.err
    answer = script("eval", f"run={run}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    assert "x…x" in answer.out
    assert list(json.loads((run / "eval.json").read_text())["classes"]) == names
    image = next((photos / names[0]).iterdir())
    answer = script("predict", f"run={run}", f"images={image}", "top_k=2", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    (row,) = csv.DictReader((run / "predictions.csv").read_text(encoding="utf-8").splitlines())
    assert {row["label"], row["label_2"]} == set(names)
    answer = script("export", f"run={run}", "formats=[pt2]")
    assert answer.code == 0, answer.err
    assert json.loads((run / "export" / LABELS).read_text())["classes"] == names
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


@pytest.mark.pictures
def test_recorded_names_that_are_not_utf8_are_replaced(script: Command, run_copy: Path, tmp_path: Path) -> None:
    """In a run of an earlier version; data is read with such names no more."""
    file = run_copy / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["classes"] = [f"caf\udce9\n{number}" for number in range(10)]
    torch.save(checkpoint, file)
    expected = [f"caf\ufffd {number}" for number in range(10)]
    write_images(tmp_path, "a.png")
    answer = script("predict", f"run={run_copy}", f"images={tmp_path / 'a.png'}", "trainer.accelerator=cpu")
    assert answer.code == 0, answer.err
    (row,) = csv.DictReader((run_copy / "predictions.csv").read_text(encoding="utf-8").splitlines())
    assert row["label"] in expected
    assert row["label"] in answer.out
    assert describe(FinishedRun(run_copy), torch.nn.Identity())["classes"] == expected
