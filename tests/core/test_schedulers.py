"""Learning rates of every step of a training."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import pytest
import torch
from conftest import ONE_BATCH, Command
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.schedulers import build_schedule, constant, cosine, linear, one_cycle
from pytorch_intro.training.trainer import silence_lightning

Schedule = Callable[..., LRScheduler]


def linear_in_steps(optimizer: Optimizer, total_steps: float) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: 1 - step / total_steps)


class LinearInSteps(LambdaLR):
    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        super().__init__(optimizer, lambda step: 1 - step / total_steps)


def learning_rates(make: Schedule, total_steps: float, **settings: float) -> list[float]:
    """Return the learning rate of each step, for a peak of 0.4."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer, total_steps, **settings)
    rates = []
    for _ in range(int(total_steps)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_constant_schedule_keeps_the_learning_rate() -> None:
    assert learning_rates(constant, 5) == [0.4] * 5


def test_one_cycle_schedule_matches_that_of_torch() -> None:
    """OneCycleLR peaks one step earlier and ends at 4e-6 of its peak; hence the tolerance."""
    reference = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(reference, 0.4, 1000, pct_start=0.25, cycle_momentum=False)
    expected = []
    for _ in range(1000):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        scheduler.step()
    assert learning_rates(one_cycle, 1000, warmup_fraction=0.25) == pytest.approx(expected, abs=0.4 * 0.01)


def test_one_cycle_peaks_at_the_learning_rate_of_the_optimizer_and_ends_near_zero() -> None:
    rates = learning_rates(one_cycle, 100, warmup_fraction=0.2)
    assert rates[0] == pytest.approx(0.4 / 25)
    assert rates.index(max(rates)) == 20
    assert max(rates) == pytest.approx(0.4)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.001 * 0.4


def test_cosine_schedule_warms_up_linearly_and_decays_along_a_cosine() -> None:
    rates = learning_rates(cosine, 20, warmup_fraction=0.2)
    assert rates[:5] == pytest.approx([0.4 * k / 5 for k in range(1, 6)])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * k / 16)) for k in range(16)])


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (partial(schedulers.StepLR, step_size=1, gamma=0.5), [0.4] * 3 + [0.2] * 3 + [0.1] * 3),
        (partial(schedulers.MultiStepLR, milestones=[2], gamma=0.1), [0.4] * 6 + [0.04] * 3),
        (partial(schedulers.CosineAnnealingLR, T_max=2), [0.4] * 3 + [0.2] * 3 + [0.0] * 3),
        (linear_in_steps, [0.4 * (1 - step / 9) for step in range(9)]),
        (LinearInSteps, [0.4 * (1 - step / 9) for step in range(9)]),
    ],
    ids=["StepLR", "MultiStepLR", "CosineAnnealingLR", "function", "class with total_steps"],
)
def test_a_class_of_torch_is_stepped_by_epochs_and_others_by_batches(factory: Schedule, expected: list[float]) -> None:
    """In three epochs of three batches, with Lightning's Trainer."""
    rates: list[float] = []

    class Tiny(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            loss: Tensor = self.layer(batch[0]).sum()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.4)
            return {"optimizer": optimizer, "lr_scheduler": build_schedule(factory, optimizer, 9, 3)}

    batches = DataLoader(TensorDataset(torch.ones(3, 1)), batch_size=1)
    silence_lightning()
    Trainer(
        accelerator="cpu", devices=1, max_epochs=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(Tiny(), batches)  # fmt: skip
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("mode", "monitor"), [("min", "val/loss"), ("max", "val/accuracy")])
def test_a_plateau_schedule_watches_the_metric_of_its_mode(mode: Literal["min", "max"], monitor: str) -> None:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = build_schedule(partial(schedulers.ReduceLROnPlateau, mode=mode), optimizer, 9, 3)
    assert (schedule["monitor"], schedule["frequency"]) == (monitor, 3)


@pytest.mark.parametrize(
    "setting", ["data.val_fraction=0", "trainer.limit_val_batches=0", "trainer.check_val_every_n_epoch=2"]
)
def test_a_plateau_schedule_needs_a_validation_after_every_epoch(command: Command, setting: str) -> None:
    plateau = ["~scheduler.warmup_fraction", "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"]
    answer = command(*ONE_BATCH, *plateau, setting)
    assert answer.code == 2
    assert "scheduler: ReduceLROnPlateau needs a validation after every epoch; set " in answer.err


def test_linear_schedule_warms_up_and_decays_linearly() -> None:
    rates = learning_rates(linear, 20, warmup_fraction=0.2)
    assert rates[:5] == pytest.approx([0.4 * k / 5 for k in range(1, 6)])
    assert rates[5:] == pytest.approx([0.4 * (1 - k / 16) for k in range(1, 16)])


@pytest.mark.parametrize("total_steps", range(1, 10))
@pytest.mark.parametrize("schedule", [linear, cosine, one_cycle])
def test_schedules_are_positive_for_very_few_steps(schedule: Schedule, total_steps: int) -> None:
    assert all(0 < rate <= 0.4 for rate in learning_rates(schedule, total_steps, warmup_fraction=0.25))


@pytest.mark.parametrize("schedule", [linear, cosine, one_cycle])
def test_a_schedule_without_a_last_step_is_rejected(schedule: Schedule) -> None:
    with pytest.raises(UserError, match="max_epochs"):
        learning_rates(schedule, math.inf, warmup_fraction=0.25)
