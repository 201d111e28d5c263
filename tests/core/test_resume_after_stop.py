"""A run that decided to stop, and was killed before its result, ends as an uninterrupted one when it is resumed."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Killed, WholeRuns, epochs_trained
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Timer
from test_resume import SMALL, assert_same_run

from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.callbacks.epoch_logger import EpochLogger

SIX = [argument for argument in SMALL if "max_epochs" not in argument]  # batches per epoch


class StopAt(Callback):
    """A user's callback that stops the training after a step, in the hook `when`."""

    def __init__(self, step: int, when: str) -> None:
        self.step = step
        setattr(self, when, self.stop)

    def stop(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.step


def stop_at(step: int, when: str) -> list[str]:
    node = {"_target_": "test_resume_after_stop.StopAt", "step": step, "when": when}
    return ["trainer.max_epochs=5", *(f"+callbacks.stop_at.{key}={value}" for key, value in node.items())]


EARLY = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"]
STOPS = {
    "early stopping": ([*EARLY, "trainer.max_epochs=8"], None),
    "max_steps in an epoch": (["trainer.max_epochs=-1", "trainer.max_steps=9"], 2),
    "max_steps at the end of an epoch": (["trainer.max_epochs=-1", "trainer.max_steps=12"], 2),
    "max_steps and max_epochs": (["trainer.max_epochs=5", "trainer.max_steps=9"], 2),
    "a callback in an epoch": (stop_at(9, "on_train_batch_end"), 2),
    "a callback in an epoch, without validation": (
        [*stop_at(9, "on_train_batch_end"), "trainer.limit_val_batches=0"], 2,
    ),
    "a callback in a validation": ([*stop_at(8, "on_validation_end"), "trainer.val_check_interval=2"], 2),
    "a callback at the end of an epoch": (stop_at(7, "on_train_epoch_end"), 2),
    "a callback before min_epochs": ([*stop_at(2, "on_train_batch_end"), "trainer.min_epochs=2"], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_run_that_lacks_its_result_does_not_train_again(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
    name: str,
) -> None:
    arguments, epochs = STOPS[name]
    whole = whole_runs(*SIX, *arguments)
    kills = 2 if name == "a callback in an epoch" else 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        for _ in range(kills):
            with pytest.raises(Killed):
                command(*SIX, *arguments, "name=killed")
    killed = tmp_path / "outputs" / "killed"
    assert command(*SIX, *arguments, "name=killed").code == 0
    assert_same_run(whole, killed)
    assert epochs_trained(killed) == epochs_trained(whole)
    assert epochs is None or epochs_trained(whole) == epochs


@pytest.mark.parametrize("name", ["max_steps in an epoch", "a callback in an epoch, without validation"])
def test_a_run_killed_after_its_last_step_ends_its_epoch(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
    name: str,
) -> None:
    """Before the checkpoint of the epoch, which the training has ended early."""
    arguments, _ = STOPS[name]
    end_epoch = EpochLogger.on_train_epoch_end

    def killed(self: EpochLogger, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise Killed
        end_epoch(self, trainer, pl_module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_end", killed)
        with pytest.raises(Killed):
            command(*SIX, *arguments, "name=killed")
    assert command(*SIX, *arguments, "name=killed").code == 0
    assert_same_run(whole_runs(*SIX, *arguments), tmp_path / "outputs" / "killed")


def test_a_run_that_max_time_stopped_does_not_train_again(command: Command, tmp_path: Path) -> None:
    """Here, the time is up after 9 steps."""

    def check(self: Timer, trainer: Trainer) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= 9

    arguments = [*SIX, "trainer.max_time=00:01:00:00", "trainer.max_epochs=5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Timer, "_check_time_remaining", check)
        assert command(*arguments, "name=whole").code == 0
        assert command(*arguments, "name=killed").code == 0
        killed = tmp_path / "outputs" / "killed"
        (killed / "result.json").unlink()
        assert command(*arguments, "name=killed").code == 0
    assert_same_run(tmp_path / "outputs" / "whole", killed)
    assert epochs_trained(killed) == 2


def test_a_callback_can_stop_at_the_start_of_an_epoch(command: Command, tmp_path: Path) -> None:
    """The epoch has no batches; the run ends the same when it is resumed."""
    run = tmp_path / "outputs" / "first"
    arguments = [*SIX, *stop_at(6, "on_train_epoch_start"), "name=first"]
    results = []
    for _ in range(2):
        assert command(*arguments).code == 0
        result = json.loads((run / "result.json").read_text())
        results.append((result["epochs"], result["best_epoch"], result["test/loss"]))
        (run / "result.json").unlink()
    assert results[0] == results[1]
    assert results[0][0] == 2
