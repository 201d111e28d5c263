"""Search spaces in Hydra's syntax, as Optuna's distributions."""

import math
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pytorch_intro.errors import UserError, one_line
from pytorch_intro.sweeps.plan import values_of

Space = dict[str, BaseDistribution]


def search_space(overrides: Sequence[Override]) -> Space:
    """Distributions of the keys that have more than one value.

    interval(0.1, 0.9) is of real numbers, int(interval(1, 9)) of whole ones; tag(log, interval(…)) draws
    evenly from orders of magnitude; range(1, 9, 2) is 1, 3, 5, 7; choice(a, b) and a,b are either.

    Raises:
        UserError: if there is no such key, or an interval that cannot be.
    """
    space = {
        override.get_key_element(): distribution(override) for override in overrides if override.is_sweep_override()
    }
    if not space:
        raise UserError(
            "hydra/sweeper=optuna: there is nothing to search; give a space, as in "
            "optimizer.lr='tag(log, interval(0.01, 0.1))', or take a ready one: search=cnn"
        )
    return space


def distribution(override: Override) -> BaseDistribution:
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            return interval(value)
        if isinstance(value, RangeSweep) and not value.shuffle:
            return numbers(value)
        return CategoricalDistribution([text.partition("=")[2] for text in values_of(override)])
    except (ValueError, TypeError) as error:
        raise UserError(f"{override.input_line}: no space to search in ({one_line(error)})") from error


def interval(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("both ends have to be numbers")
    return FloatDistribution(float(low), float(high), log=log)


def numbers(sweep: RangeSweep) -> BaseDistribution:
    """range(start, stop, step), whose stop is not in it."""
    start, stop, step = sweep.start or 0, sweep.stop, sweep.step
    assert stop is not None
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise ValueError("it holds no values")
    last = start + (count - 1) * step
    low, high = min(start, last), max(start, last)
    if all(isinstance(number, int) for number in (start, stop, step)):
        return IntDistribution(int(low), int(high), step=abs(int(step)))
    return FloatDistribution(float(low), float(high), step=abs(float(step)))


def some_value(distribution: BaseDistribution) -> Any:
    """One of a distribution's values."""
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]


def as_overrides(params: dict[str, Any]) -> list[str]:
    """The values of a trial, key=value each."""
    return [f"{key}={params[key]}" for key in sorted(params)]
