"""Learning-rate schedules, stepped after every batch, and the classes of torch.optim.lr_scheduler.

Each schedule takes the optimizer, whose learning rates are the peak, and the number of steps of the training (at least
1).
"""

import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from pytorch_intro.common.errors import UserError

WarmUp = Annotated[float, Field(ge=0, lt=1)]


def constant(optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """Keep the optimizer's learning rates."""
    return LambdaLR(optimizer, lambda step: 1.0)


def linear(optimizer: Optimizer, total_steps: float, warmup_fraction: WarmUp) -> LRScheduler:
    """Warm up linearly to the optimizer's learning rates, then decay linearly to 0.

    The best schedule in most comparisons of schedules for a fixed number of steps: Li et al. 2020 (arXiv:1905.04753),
    Defazio et al. 2023 (arXiv:2310.07831).
    """
    return linear_warmup(optimizer, total_steps, warmup_fraction, decay=lambda left: left)


def cosine(optimizer: Optimizer, total_steps: float, warmup_fraction: WarmUp) -> LRScheduler:
    """Warm up linearly to the optimizer's learning rates, then decay to 0 along a cosine.

    Loshchilov and Hutter 2017 (arXiv:1608.03983), without restarts.
    """
    return linear_warmup(optimizer, total_steps, warmup_fraction, decay=lambda left: _cosine(0, 1, left))


def linear_warmup(
    optimizer: Optimizer, total_steps: float, warmup_fraction: float, decay: Callable[[float], float]
) -> LRScheduler:
    """Warm up linearly, then multiply the learning rates by decay(share of the steps that are left), from 1 to 0."""
    require_total_steps(total_steps)
    warmup_steps = warmup_fraction * total_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return decay((total_steps - step) / (total_steps - warmup_steps))

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, total_steps: float, warmup_fraction: WarmUp) -> LRScheduler:
    """Warm up from 1/25 of the optimizer's learning rates to them, then decay to 0, along cosines.

    Smith 2018 (arXiv:1708.07120), without the momentum cycle, so that it works with any optimizer. torch's OneCycleLR
    divides by zero when the warm-up is a single step.
    """
    require_total_steps(total_steps)
    warmup_steps = warmup_fraction * total_steps

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _cosine(1 / 25, 1, step / warmup_steps)
        return _cosine(1, 0, (step - warmup_steps) / (total_steps - warmup_steps))

    return LambdaLR(optimizer, factor)


def build_schedule(
    factory: Callable[..., LRScheduler], optimizer: Optimizer, total_steps: float, steps_per_epoch: int
) -> dict[str, Any]:
    """Build the schedule of a config node, as Lightning's lr_scheduler_config.

    A function is called with the optimizer and total_steps. A class, as those of torch.optim.lr_scheduler, is called
    with the optimizer and stepped after every epoch; if it takes total_steps, with both, and stepped after every batch.
    ReduceLROnPlateau watches val/loss, or with mode=max val/accuracy.
    """
    target = schedule_class(factory)
    if target is None:
        return {"scheduler": factory(optimizer, total_steps), "interval": "step"}
    if "total_steps" in inspect.signature(target).parameters:
        require_total_steps(total_steps)
        return {"scheduler": factory(optimizer, total_steps=int(total_steps)), "interval": "step"}
    schedule = factory(optimizer)
    # At the last batch: Lightning would step it after last.ckpt is saved, and a resumed run would miss this step.
    config = {"scheduler": schedule, "interval": "step", "frequency": steps_per_epoch}
    if isinstance(schedule, ReduceLROnPlateau):
        config["monitor"] = "val/loss" if schedule.mode == "min" else "val/accuracy"
    return config


def schedule_class(factory: Callable[..., LRScheduler]) -> type[LRScheduler] | None:
    """Return the class that a factory, maybe a partial, builds; None for a function."""
    target = getattr(factory, "func", factory)
    return target if inspect.isclass(target) and issubclass(target, LRScheduler) else None


def require_total_steps(total_steps: float) -> None:
    """Raise a UserError if the training has no last step."""
    if math.isinf(total_steps):
        raise UserError(
            "scheduler: unknown number of steps; set trainer.max_epochs, trainer.max_steps or scheduler=constant"
        )


def _cosine(start: float, end: float, progress: float) -> float:
    """Interpolate between start (progress 0) and end (progress 1) along half a cosine wave."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
