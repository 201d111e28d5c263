"""Learning rate schedules, stepped after every batch; each takes the optimizer and the length of the training."""

import math
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from pytorch_intro.errors import UserError


def constant(optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """The optimizer's learning rates throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def one_cycle(
    optimizer: Optimizer, total_steps: float, warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.25
) -> LRScheduler:
    """From 1/25 of the optimizer's learning rates up to them, then down to nearly nothing, along cosines.

    Smith 2018 (arXiv:1708.07120), without his momentum cycle, so that it goes with any optimizer.

    Args:
        total_steps: Optimizer steps of the whole training, 1 or more.
        warmup_fraction: Share of the steps that go up.

    Raises:
        UserError: if the training has no end.
    """
    if math.isinf(total_steps):
        raise UserError("trainer.max_epochs=-1: this schedule needs an end; set it or trainer.max_steps")
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, int(total_steps), pct_start=warmup_fraction, cycle_momentum=False)
