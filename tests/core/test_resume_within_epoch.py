"""A run resumed within an epoch has what callbacks set, and what was measured, since the epoch started."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, WholeRuns, killed_run
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BaseFinetuning, Callback
from test_resume import SMALL, assert_same_run
from torch import nn
from torch.optim import Optimizer


class SmoothLabels(Callback):
    """A callback without a state, which sets something for each epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.loss.label_smoothing = 0.4 * (trainer.current_epoch % 2)  # type: ignore[union-attr]


class CountEpochs(Callback):
    """A callback with a state, which its hook would change if it were called twice in an epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs += 1
        pl_module.loss.label_smoothing = 0.1 * self.epochs  # type: ignore[union-attr]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.loss.label_smoothing = 0.1 * self.epochs  # type: ignore[union-attr]

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


class UnfreezeInSecondEpoch(BaseFinetuning):
    """Trains the last layer, then all layers; that includes the statistics of batch norm."""

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        self.freeze(layers(pl_module)[:-1], train_bn=False)

    def finetune_function(self, pl_module: LightningModule, epoch: int, optimizer: Optimizer) -> None:
        if epoch == 1:
            self.make_trainable(layers(pl_module)[:-1])


def layers(pl_module: LightningModule) -> list[nn.Module]:
    return list(pl_module.network.layers)  # type: ignore[union-attr, arg-type]


def callback(target: str, **values: Any) -> list[str]:
    return [f"+callbacks.added.{key}={value}" for key, value in {"_target_": target, **values}.items()]


LIGHTNING = "lightning.pytorch.callbacks"


@pytest.mark.parametrize(
    "arguments",
    [
        callback(f"{LIGHTNING}.GradientAccumulationScheduler", scheduling="{0:4}"),
        callback(f"{LIGHTNING}.LearningRateMonitor", logging_interval="epoch"),
        callback("test_resume_within_epoch.SmoothLabels"),
        callback("test_resume_within_epoch.CountEpochs"),
        callback("test_resume_within_epoch.UnfreezeInSecondEpoch"),
        ["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=4"],
        ["+trainer.reload_dataloaders_every_n_epochs=1"],
        ["data.sampler=balanced", "data.samples_per_epoch=80"],
        ["data.samples_per_epoch=80", "loss=focal", "loss.class_weights=effective_number"],
        [
            *("callbacks=early_stopping", "+callbacks.early_stopping.check_on_train_epoch_end=true"),
            *("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=4"),
        ],
    ],
    ids=lambda arguments: arguments[0].rpartition(".")[2],
)
def test_resume_within_an_epoch_is_bit_identical(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
    arguments: list[str],
) -> None:
    whole = whole_runs(*SMALL, *arguments)
    for batch in (5, 9):
        killed = shutil.copytree(killed_run(whole, batch), tmp_path / "outputs" / f"killed-{batch}")
        answer = command(*SMALL, *arguments, f"name=killed-{batch}")
        assert answer.code == 0, answer.err
        assert_same_run(whole, killed)
        assert history(killed) == history(whole)
        assert step_losses(killed) == step_losses(whole)


def history(run: Path) -> dict[int, dict[str, float]]:
    """Return the metrics of each epoch, from which curves.png is plotted, without measured times."""
    callbacks = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    epochs = callbacks["EpochLogger"]["history"]
    return {epoch: {name: value for name, value in metrics.items() if "/" in name} for epoch, metrics in epochs.items()}


def step_losses(run: Path) -> list[tuple[float, float]]:
    """Return the points of train/loss_step in curves.png."""
    callbacks = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    points: list[tuple[float, float]] = callbacks["StepLogger"]["history"]
    assert len(points) > 1
    return points
