"""A callback that monitors a metric that the run does not log is reported before training."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Command, compose
from explained import assert_explained
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.monitors import TRAIN_METRICS, VAL_METRICS, check_monitors

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
ALL = "choose from train/loss, train/accuracy, .*val/loss, val/accuracy"
OWN = "+callbacks.own._target_=test_monitors.LogsF1"


class LogsF1(Callback):
    """A user's callback that logs a metric of its own."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/f1", 0.5)


class Stops(Callback):
    """A user's callback that monitors a metric, whatever it is."""

    def __init__(self, monitor: Any) -> None:
        self.monitor = monitor


@pytest.mark.parametrize(
    ("arguments", "names", "problem", "remedy"),
    [
        (
            ["callbacks.checkpoint.monitor=val/f1"],
            [],
            "no such validation metric",
            "choose from val/loss, val/accuracy",
        ),
        (["callbacks.checkpoint.monitor=train/loss"], [], "no such validation metric", "val/loss, val/accuracy"),
        (["callbacks.early_stopping.monitor=val/acc", "callbacks=early_stopping"], [], "no such metric", ALL),
        (["callbacks.early_stopping.monitor=lr", "callbacks=early_stopping"], [], "no such metric", ALL),
        (
            ["callbacks.checkpoint.monitor=val/acc", "trainer.fast_dev_run=true"],
            [],
            "no such validation metric",
            "loss",
        ),
        (["callbacks.checkpoint.monitor=val/acc", "trainer.enable_checkpointing=false"], [], "no such", "val/loss"),
        (["callbacks.checkpoint.monitor=val/acc", "-m", "seed=0,1"], [], "no job was started", "choose from val/loss"),
        (
            ["-m", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/loss,val/f1"],
            ["callbacks.early_stopping.monitor=val/f1"],
            "no job was started",
            ALL,
        ),
    ],
)
def test_an_unknown_monitor_is_rejected_before_training(
    command: Command, tmp_path: Path, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    """Also if the callback will not be used, and in a sweep before its first job."""
    answer = command(*FEW, *arguments, "name=first")
    assert answer.code == 2
    assert_explained(answer.err, arguments, names or arguments[:1], problem, remedy)
    assert "epoch 1" not in answer.out
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize("no_validation", ["data.val_fraction=0", "trainer.limit_val_batches=0"])
def test_early_stopping_on_a_training_metric_needs_no_validation(command: Command, no_validation: str) -> None:
    """Nor does the checkpoint callback, which keeps the last checkpoint then."""
    stops = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/loss"]
    assert command(*FEW, *stops, no_validation, "name=first").code == 0


@pytest.mark.parametrize("metric", TRAIN_METRICS + VAL_METRICS)
def test_every_listed_metric_is_logged(command: Command, metric: str) -> None:
    answer = command(*FEW, "callbacks=early_stopping", f"callbacks.early_stopping.monitor={metric}", "name=first")
    assert answer.code == 0, answer.err


def test_a_metric_of_a_users_own_callback_can_be_monitored(command: Command) -> None:
    """A misspelled one is reported after the first validation: only then it is known what the callback logs."""
    own = [*FEW, OWN, "callbacks.checkpoint.monitor=val/f1", "name=own"]
    assert command(*own, "callbacks=early_stopping", "callbacks.early_stopping.monitor=val/f1").code == 0
    wrong = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/f2"]
    answer = command(*FEW, OWN, *wrong, "name=wrong")
    assert answer.code == 2
    assert_explained(answer.err, [], ["callbacks", "`val/f2`"], "not available", "any of the following.*val/f1")
    answer = command(*FEW, OWN, "callbacks.checkpoint.monitor=val/f2", "name=unknown")
    assert answer.code == 2
    assert_explained(answer.err, [], ["callbacks.checkpoint.monitor=val/f2"], "no such", "val/f1.*val/loss")


def test_a_users_own_classes_and_other_values_named_monitor_are_accepted() -> None:
    for target in ("test_monitors.Stops", "lightning.pytorch.callbacks.ModelCheckpoint"):
        check_monitors(compose("data=sample", f"+callbacks.own={{_target_: {target}, monitor: val/loss}}"))
    check_monitors(compose("data=sample", "+callbacks.own={_target_: test_monitors.Stops, monitor: [1, 2]}"))
    check_monitors(compose("classifier._target_=mine.Classifier", "callbacks.checkpoint.monitor=val/f1"))
    check_monitors(compose("callbacks.checkpoint=null", "callbacks.progress_bar=null"))
    with pytest.raises(UserError, match=r"callbacks\.own\.monitor=val/f1: no such metric"):
        check_monitors(
            compose("+callbacks.own={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/f1}")
        )
