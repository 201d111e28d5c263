"""Convert search spaces in Hydra's syntax to Optuna's distributions."""

import math
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.sweeps.plan import num_values, override_values

Space = dict[str, BaseDistribution]


def search_space(overrides: Sequence[Override]) -> Space:
    """Return the distribution of each key that has more than one value.

    interval(0.1, 0.9) is a float, int(interval(1, 9)) an integer; tag(log, interval(…)) samples on a log scale;
    range(1, 9, 2) is one of 1, 3, 5, 7; choice(a, b) and a,b are categorical.

    Raises:
        UserError: If no key has more than one value, or a distribution is invalid.
    """
    sweeps = (override for override in overrides if override.is_sweep_override())
    space = {override.get_key_element(): to_distribution(override) for override in sweeps}
    if not space:
        raise UserError(
            "hydra/sweeper=optuna: nothing to search; add optimizer.lr='tag(log, interval(0.01, 0.1))', for example, "
            "or search=cnn"
        )
    return space


def to_distribution(override: Override) -> BaseDistribution:
    value, count = override.value(), num_values(override)
    try:
        if isinstance(value, IntervalSweep):
            return interval_distribution(value)
        if isinstance(value, RangeSweep) and not value.shuffle:
            return range_distribution(value, count)
        return CategoricalDistribution([text.partition("=")[2] for text in override_values(override)])
    except (ValueError, TypeError) as error:
        raise UserError(f"{override.input_line}: invalid search space ({first_lines(error)}); change it") from error


def interval_distribution(sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("both ends must be finite")
    return FloatDistribution(float(low), float(high), log=log)


def range_distribution(sweep: RangeSweep, count: int) -> BaseDistribution:
    """Convert range(start, stop, step), which has `count` values and excludes stop."""
    start, stop, step = sweep.start or 0, sweep.stop, sweep.step
    assert stop is not None
    if count < 1:
        raise ValueError("no values; the step must go from start towards stop")
    low, high = sorted((start, start + (count - 1) * step))
    if all(isinstance(number, int) for number in (start, stop, step)):
        return IntDistribution(int(low), int(high), step=abs(int(step)))
    return FloatDistribution(float(low), float(high), step=abs(float(step)))


def any_value(distribution: BaseDistribution) -> Any:
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]


def to_overrides(params: dict[str, Any]) -> list[str]:
    """Return the parameters of a trial as overrides, key=value."""
    return [f"{key}={params[key]}" for key in sorted(params)]
