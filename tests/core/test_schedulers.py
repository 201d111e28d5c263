"""Learning rates of every step of a training."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.schedulers import constant, linear, one_cycle

Schedule = Callable[..., LRScheduler]


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


def test_linear_schedule_warms_up_and_decays_linearly() -> None:
    rates = learning_rates(linear, 20, warmup_fraction=0.2)
    assert rates[:5] == pytest.approx([0.4 * k / 5 for k in range(1, 6)])
    assert rates[5:] == pytest.approx([0.4 * (1 - k / 16) for k in range(1, 16)])


@pytest.mark.parametrize("total_steps", range(1, 10))
@pytest.mark.parametrize("schedule", [linear, one_cycle])
def test_schedules_are_positive_for_very_few_steps(schedule: Schedule, total_steps: int) -> None:
    assert all(0 < rate <= 0.4 for rate in learning_rates(schedule, total_steps, warmup_fraction=0.25))


@pytest.mark.parametrize("schedule", [linear, one_cycle])
def test_a_schedule_without_a_last_step_is_rejected(schedule: Schedule) -> None:
    with pytest.raises(UserError, match="max_epochs"):
        learning_rates(schedule, math.inf, warmup_fraction=0.25)
