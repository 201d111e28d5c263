"""A run is not continued or used with other code of the user's without a word."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import ONE_BATCH, Command, write_images

from pytorch_intro.runs import code

NETWORK = """
from torch import nn

class Mean(nn.Module):
    def __init__(self, image_shape, num_classes, **kwargs):
        super().__init__()
        self.layer = nn.Linear(image_shape[0], num_classes)

    def forward(self, images):
        return self.layer(images.mean(dim=(2, 3)))
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the src/ of a project with the module changing_network."""
    folder = tmp_path / "project" / "src"
    folder.mkdir(parents=True)
    (folder / "changing_network.py").write_text(NETWORK)
    monkeypatch.setattr(code, "SOURCE", folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "changing_network", raising=False)
    return folder


@pytest.fixture
def run(source: Path, command: Command, tmp_path: Path) -> Path:
    answer = command(*ONE_BATCH, "model._target_=changing_network.Mean")
    assert answer.code == 0, answer.err
    assert "changed since" not in answer.out
    return tmp_path / "outputs" / "first"


def test_a_checkpoint_has_the_hashes_of_imported_files_of_the_project(run: Path, source: Path) -> None:
    (source / "never_imported.py").write_text("")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["code"] == {"changing_network.py": code.hash_file(source / "changing_network.py")}


def test_the_code_of_the_package_is_not_that_of_the_user(command: Command) -> None:
    """In a clone, its scripts and plugins are in src/, too; a new version of them is not a change of the user's."""
    assert command(*ONE_BATCH).code == 0
    assert Path(sys.modules["train"].__file__ or "").parent == code.SOURCE
    assert code.hash_code() == {}


def test_line_ends_are_no_change(source: Path) -> None:
    """Git may convert them on Windows."""
    file = source / "changing_network.py"
    before = {file.name: code.hash_file(file)}
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert code.changed_code(before) == []


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_changed_code_is_named_when_a_run_is_used(
    run: Path, source: Path, script: Command, tmp_path: Path, name: str
) -> None:
    write_images(tmp_path, "shoe.png")
    (source / "changing_network.py").write_text(NETWORK.replace(".mean(", ".amax("))
    arguments = {"eval": "trainer=cpu", "predict": f"images={tmp_path / 'shoe.png'}"}
    answer = script(name, f"run={run}", "allow=[changing_network]", arguments[name])
    assert answer.code == 0, answer.err
    assert "code: src/changing_network.py changed since the run was trained; " in answer.out + answer.err


def test_changed_code_is_named_when_a_run_continues(run: Path, source: Path, command: Command) -> None:
    extended = [f"resume={run}", "trainer.max_epochs=2", "allow=[changing_network]"]
    (source / "changing_network.py").write_text(NETWORK.replace(".mean(", ".amax("))
    answer = command(*extended)
    assert answer.code == 0, answer.err
    assert "code: src/changing_network.py changed since the run began; it continues with the new code" in answer.out
    again = command(f"resume={run}", "trainer.max_epochs=3", "allow=[changing_network]")
    assert "changed since" not in again.out, "last.ckpt is of the new code"


def test_weights_that_no_longer_fit_name_the_file_to_restore(run: Path, source: Path, script: Command) -> None:
    (source / "changing_network.py").write_text(NETWORK.replace("self.layer", "self.head"))
    del sys.modules["changing_network"]
    answer = script("eval", f"run={run}", "trainer=cpu", "allow=[changing_network]")
    assert answer.code == 2
    assert "does not match the model" in answer.err
    assert "; restore src/changing_network.py " in answer.err
    assert "dirty" not in answer.err
    assert answer.err.endswith(", or retrain\n")
