"""A callback that monitors a metric that the run does not log is reported before training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from conftest import NO_PICTURES, Command, compose
from explained import assert_explained
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.checkpoint import BestLastCheckpoint
from pytorch_intro.training.monitors import TRAIN_METRICS, VAL_METRICS, check_monitors
from pytorch_intro.training.trainer import build_callback

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
FEW += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", *NO_PICTURES]
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


def test_every_listed_metric_is_logged(command: Command) -> None:
    """A callback for each of them; one for a metric that is missing would end the run."""
    stops = [
        f"+callbacks.stop_{number}={{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: {metric}}}"
        for number, metric in enumerate(TRAIN_METRICS + VAL_METRICS)
    ]
    answer = command(*FEW, *stops, "name=first")
    assert answer.code == 0, answer.err


def test_a_metric_of_a_users_own_callback_can_be_monitored(command: Command) -> None:
    """A misspelled one is reported after the first validation: only then it is known what the callback logs."""
    best = ["callbacks.checkpoint.monitor=val/f1", "callbacks.checkpoint.mode=max"]
    stops = ["callbacks=early_stopping", "callbacks.early_stopping.mode=max"]
    assert command(*FEW, OWN, *best, *stops, "callbacks.early_stopping.monitor=val/f1", "name=own").code == 0
    answer = command(*FEW, OWN, *stops, "callbacks.early_stopping.monitor=val/f2", "name=wrong")
    assert answer.code == 2
    assert_explained(answer.err, [], ["callbacks", "`val/f2`"], "not available", "any of the following.*val/f1")
    unknown = ["callbacks.checkpoint.monitor=val/f2", "callbacks.checkpoint.mode=max"]
    answer = command(*FEW, OWN, *unknown, "name=unknown")
    assert answer.code == 2
    assert_explained(answer.err, [], ["callbacks.checkpoint.monitor=val/f2"], "no such", "val/f1.*val/loss")


def test_a_users_own_classes_and_other_values_named_monitor_are_accepted() -> None:
    for target in ("test_monitors.Stops", "lightning.pytorch.callbacks.ModelCheckpoint"):
        check_monitors(compose("data=sample", f"+callbacks.own={{_target_: {target}, monitor: val/loss}}"))
    check_monitors(compose("data=sample", "+callbacks.own={_target_: test_monitors.Stops, monitor: [1, 2]}"))
    own = ["classifier._target_=mine.Classifier", "callbacks.checkpoint.monitor=val/f1"]
    check_monitors(compose(*own, "callbacks.checkpoint.mode=min"))
    with pytest.raises(UserError, match=r"checkpoint\.mode=null: does not follow from val/f1; set .*mode=max or min"):
        check_monitors(compose(*own))
    check_monitors(compose("callbacks.checkpoint=null", "callbacks.progress_bar=null"))
    with pytest.raises(UserError, match=r"callbacks\.own\.monitor=val/f1: no such metric"):
        check_monitors(
            compose("+callbacks.own={_target_: lightning.pytorch.callbacks.ModelCheckpoint, monitor: val/f1}")
        )


BOTH = ["callbacks=early_stopping", "data=sample"]
BY_ACCURACY: tuple[str, Literal["max", "min"]] = ("val/accuracy", "max")
BY_LOSS: tuple[str, Literal["max", "min"]] = ("val/loss", "min")


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [BY_LOSS, BY_ACCURACY, ("train/loss", "min"), ("images_per_second", "max")],
)
def test_the_mode_follows_from_the_metric(monitor: str, mode: str) -> None:
    """Of the project's callbacks and of Lightning's, whose own default is min, also where the config has no mode."""
    nodes = compose(*BOTH, f"callbacks.early_stopping.monitor={monitor}", "+callbacks.own.monitor=x").callbacks
    nodes.own = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": monitor}
    nodes.checkpoint.monitor = monitor
    sign = {"max": 1, "min": -1}[mode]
    built: list[Any] = [build_callback(nodes[name], name, {}) for name in ("checkpoint", "early_stopping", "own")]
    assert [built[0].sign, built[1].mode, built[2].mode] == [sign, mode, mode]


@pytest.mark.parametrize("name", ["checkpoint", "early_stopping"])
def test_a_contradicting_mode_is_refused(name: str) -> None:
    for monitor, wrong, right in (("val/loss", "max", "min"), ("val/accuracy", "min", "max")):
        settings = [f"callbacks.{name}.monitor={monitor}", f"callbacks.{name}.mode="]
        check_monitors(compose(*BOTH, settings[0], settings[1] + right))
        more = {"max": "more", "min": "less"}[right]
        message = rf"^callbacks\.{name}\.mode={wrong}: {more} is better for {monitor}; remove it, or use .*={right}$"
        with pytest.raises(UserError, match=message):
            check_monitors(compose(*BOTH, settings[0], settings[1] + wrong))


def test_the_best_checkpoint_by_loss_is_that_of_the_lowest_loss(command: Command, tmp_path: Path) -> None:
    """Although the config names no mode."""
    epochs = ["trainer.max_epochs=4", "optimizer=sgd", "optimizer.lr=3", "scheduler=constant", "name=first"]
    answer = command(*FEW, *epochs, "callbacks.checkpoint.monitor=val/loss")
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs" / "first" / "checkpoints"
    best, last = (torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    losses = [metrics["val/loss"] for metrics in last["callbacks"]["EpochLogger"]["history"].values()]
    assert len(set(losses)) == 4
    assert best["metrics"]["val/loss"] == min(losses)


@pytest.mark.parametrize("resume_after", [None, 1, 2, 3])
def test_of_equal_scores_the_lowest_loss_is_the_best(resume_after: int | None, tmp_path: Path) -> None:
    """And the first, if that is equal, too; also if the run is resumed in between."""
    checkpoint = BestLastCheckpoint(str(tmp_path / "checkpoints"), *BY_ACCURACY, None)
    best = []
    for number, (accuracy, loss) in enumerate([(0.5, 2.0), (0.5, 3.0), (0.5, 1.0), (0.5, 1.0), (0.4, 0.5)], 1):
        metrics = {"val/accuracy": torch.tensor(accuracy), "val/loss": torch.tensor(loss)}
        trainer: Any = SimpleNamespace(callback_metrics=metrics)
        best.append(checkpoint.is_best(trainer))
        if number == resume_after:
            state = checkpoint.state_dict()
            checkpoint = BestLastCheckpoint(str(tmp_path / "checkpoints"), *BY_ACCURACY, None)
            checkpoint.load_state_dict(state)
    assert best == [True, False, True, False, False]


def test_a_resumed_run_with_another_monitor_does_not_compare_its_score_with_the_old_one(tmp_path: Path) -> None:
    before, after = (BestLastCheckpoint(str(tmp_path / "checkpoints"), *by, None) for by in (BY_ACCURACY, BY_LOSS))
    before.best_model_score, before.best_loss = 0.9, 0.3
    after.load_state_dict(before.state_dict())
    trainer: Any = SimpleNamespace(callback_metrics={"val/loss": torch.tensor(1.5)})
    assert after.is_best(trainer)
    assert after.best_model_score == 1.5
