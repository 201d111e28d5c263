"""Learning rate schedules, stepped after every batch; each takes the optimizer and the length of the training."""

import math
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from pytorch_intro.errors import UserError

WarmUp = Annotated[float, Field(ge=0, lt=1)]


def constant(optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """The optimizer's learning rates throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def linear(optimizer: Optimizer, total_steps: float, warmup_fraction: WarmUp = 0.25) -> LRScheduler:
    """Straight up to the optimizer's learning rates, and straight down to nothing.

    Of the courses that end with a fixed number of steps the best in most comparisons: Li et al. 2020
    (arXiv:1905.04753), Defazio et al. 2023 (arXiv:2310.07831).

    Args:
        total_steps: Optimizer steps of the whole training, 1 or more.
        warmup_fraction: Share of the steps that go up.

    Raises:
        UserError: if the training has no end.
    """
    check_end(total_steps)
    warmup_steps = warmup_fraction * total_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return (total_steps - step) / (total_steps - warmup_steps)

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, total_steps: float, warmup_fraction: WarmUp = 0.25) -> LRScheduler:
    """From 1/25 of the optimizer's learning rates up to them, then down to nothing, along cosines.

    Smith 2018 (arXiv:1708.07120), without his momentum cycle, so that it goes with any optimizer. torch's OneCycleLR
    divides by zero when the warm-up is a single step.

    Arguments and errors are those of linear.
    """
    check_end(total_steps)
    warmup_steps = warmup_fraction * total_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _cosine(1 / 25, 1, step / warmup_steps)
        return _cosine(1, 0, (step - warmup_steps) / (total_steps - warmup_steps))

    return LambdaLR(optimizer, factor)


def check_end(total_steps: float) -> None:
    if math.isinf(total_steps):
        raise UserError(
            "scheduler: it needs to know the last step; set trainer.max_epochs or trainer.max_steps, or take "
            "scheduler=constant"
        )


def _cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from start (at progress 0) to end (at progress 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
