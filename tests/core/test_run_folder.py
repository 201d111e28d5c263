"""A run uses only a folder of its own, and says so in one line if the folder is not what it should be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, WholeRuns
from explained import assert_explained
from lightning import LightningModule, Trainer
from test_resume import SMALL, assert_same_run

from pytorch_intro.training.callbacks.epoch_logger import EpochLogger


def content(folder: Path) -> dict[str, bytes]:
    """Return the content of all files in a folder, except for the log and the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("train.log", ".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_folder_with_checkpoints_but_no_config_is_refused(command: Command, tmp_path: Path) -> None:
    """Nothing in it is used or changed; overwrite=true replaces it."""
    run = tmp_path / "outputs" / "first"
    assert command(*SMALL, "name=first").code == 0
    (run / "config.yaml").unlink()
    before = content(run)
    answer = command(*SMALL, "name=first", "seed=1")
    assert answer.code == 2
    assert_explained(answer.err, SMALL, ["checkpoints", "result.json"], "not a run", "overwrite=true")
    assert content(run) == before
    assert command(*SMALL, "name=first", "seed=1", "overwrite=true").code == 0
    assert not (run / ".replaced").exists()


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_name_free(command: Command, tmp_path: Path) -> None:
    """The folder keeps its log and the files of the user."""
    run = tmp_path / "outputs" / "first"
    run.mkdir(parents=True)
    (run / "notes.txt").write_text("mine")
    wild = ["optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant", "callbacks.checkpoint.every_n_minutes=null"]
    assert command(*SMALL, *wild, "name=first").code == 1
    assert {path.name for path in run.iterdir()} <= {"notes.txt", "train.log", ".lock"}
    assert command(*SMALL, "name=first").code == 0
    assert (run / "notes.txt").read_text() == "mine"


def test_overwrite_of_a_file_that_cannot_be_moved_changes_nothing(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "outputs" / "first"
    assert command(*SMALL, "name=first").code == 0
    before = content(run)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "result.json":
            raise PermissionError(1, "Operation not permitted", str(self))
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        answer = command(*SMALL, "name=first", "seed=1", "overwrite=true")
    assert answer.code == 2
    assert_explained(answer.err, SMALL, ["result.json"], "cannot be moved", "permissions")
    assert content(run) == before


def assert_move_is_explained(command: Command, run: Path, hook: str, move: Callable[..., None]) -> None:
    """Train, and move the run folder in a hook: the command ends with one line and does not create it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLogger, hook, move)
        answer = command(*SMALL, "name=first")
    assert answer.code == 1
    assert_explained(answer.err, SMALL, [str(run)], "moved or removed", "resume=DIR")
    assert not run.exists()


def test_a_run_whose_folder_disappears_ends_with_one_line(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
) -> None:
    """It does not create the folder again. A moved run can be resumed in its new place."""
    run, moved = tmp_path / "outputs" / "first", tmp_path / "moved"
    end_epoch = EpochLogger.on_train_epoch_end

    def move(self: EpochLogger, trainer: Trainer, pl_module: LightningModule) -> None:
        end_epoch(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            run.rename(moved)

    assert_move_is_explained(command, run, "on_train_epoch_end", move)
    assert command(f"resume={moved}").code == 0
    assert_same_run(whole_runs(*SMALL), moved)


def test_a_run_whose_folder_disappears_before_its_first_checkpoint_ends_with_one_line(
    command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "outputs" / "first"

    def move(self: EpochLogger, *_: Any) -> None:
        run.rename(tmp_path / "moved")

    assert_move_is_explained(command, run, "on_train_start", move)
