"""From Python, for a notebook: train and compose do what the commands do, and leave the process as it was."""

import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
import pytest
from conftest import ONE_BATCH
from hydra.core.global_hydra import GlobalHydra

from pytorch_intro import compose, train
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import CONFIG_DIR, PROJECT

FEW = [*(argument for argument in ONE_BATCH if not argument.startswith("name=")), "model=mlp"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def test_two_runs_in_one_process_leave_it_as_it_was(tmp_path: Path) -> None:
    """Signal handlers, arguments, working directory, log handlers and the state of Hydra."""

    def state() -> list[object]:
        return [
            [signal.getsignal(number) for number in SIGNALS], sys.argv[:], os.getcwd(), logging.getLogger().handlers[:],  # noqa: PTH109
            logging.getLogger().level, GlobalHydra.instance().hydra,
        ]  # fmt: skip

    with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):  # of the notebook
        before = state()
        result, folder = train([*FEW, "seed=1", "name=a b".replace(" ", "-"), f"outputs={tmp_path}"])
        second = train([*FEW, "seed=2", f"outputs={tmp_path}"])
        assert state() == before
    assert folder == tmp_path / "a-b"
    assert second.folder.is_relative_to(tmp_path)
    for run in ((result, folder), second):
        assert json.loads((run[1] / "result.json").read_text()) == run[0]
    assert (result["seed"], second.result["seed"]) == (1, 2)
    assert "epoch 1" in (folder / "train.log").read_text()


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model.widht=3"], "model.widht: unknown setting; did you mean model.width"),
        (["model=cmn"], "model=cmn: unknown choice; did you mean cnn\\? choose from "),
        (["trainer.max_epochs=many"], "trainer.max_epochs=many: invalid value; input should be a valid integer"),
        (["name=../x"], "name='../x': not a valid folder name; use letters"),
        ("data=sample", r"'data=sample': not a list; use \['data=sample'\]"),
    ],
    ids=str,
)
def test_mistakes_are_raised_with_their_remedy(tmp_path: Path, overrides: list[str], problem: str) -> None:
    """And leave no folder."""
    outputs = [f"outputs={tmp_path}"]
    with pytest.raises(UserError, match=f"^{problem}"):
        train([*overrides, *outputs] if isinstance(overrides, list) else overrides)
    assert not list(tmp_path.rglob("*.yaml"))


@pytest.mark.skipif(not (PROJECT / "src" / "predict.py").exists(), reason="inference is an optional part")
def test_the_documented_program_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "projects.md").read_text(), re.DOTALL)
    more = ", ".join(repr(override) for override in ("name=notebook", *FEW, f"outputs={tmp_path}"))
    scope: dict[str, Any] = {}
    exec(code.replace('"name=notebook"', more), scope)
    assert scope["folder"] == tmp_path / "notebook"
    assert capsys.readouterr().out.endswith(f"{scope['result']['test/accuracy']}\n")
    assert len(scope["classes"]) == 10
    assert scope["config"].model._target_.endswith("MLP")


def test_compose_returns_the_config_of_a_command() -> None:
    config = compose(["data=sample", "model.width=8"])
    datamodule = hydra.utils.instantiate(config.data)
    datamodule.setup("fit")
    assert (len(datamodule.train_set), config.model.width) == (1280, 8)
    assert "hydra" not in config
    with pytest.raises(UserError, match="unknown choice"):
        compose(["data=nothing"])


def test_ctrl_c_raises_keyboard_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the step, with a checkpoint, as in the command; the handler of the notebook is back."""
    from pytorch_intro.training.classifier import Classifier

    step = Classifier.training_step

    def interrupted(self: Classifier, images: object, batch_idx: int) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, images, batch_idx)  # type: ignore[arg-type]

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Classifier, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train([*FEW, "name=stopped", f"outputs={tmp_path}"])
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "stopped" / "checkpoints" / "last.ckpt").exists()
