"""Turn `-m optimizer.lr=0.01,0.1 seed=0,1` into the jobs of a sweep and the overrides that they share."""

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep

from pytorch_intro.common.errors import UserError

SHARED_KEYS = ("name", "outputs", "overwrite", "allow", "resume")  # settings of the sweep, not of a job
MAX_NAME_LENGTH = 100  # characters


class Job(NamedTuple):
    """One run of a sweep: the name of its folder, and the overrides that only this job has, key=value."""

    name: str
    overrides: list[str]


class Plan(NamedTuple):
    """Jobs of a sweep, one per combination of values."""

    base: list[str]  # overrides that all jobs share, key=value
    swept: list[str]  # keys whose values differ between jobs
    jobs: list[Job]


def plan_grid(overrides: Sequence[Override], swept_before: Collection[str] = (), max_jobs: float = math.inf) -> Plan:
    """Plan one job for each combination of values.

    A job is named after the keys that are swept now or were swept before. So one more value, alone or with the others,
    adds one more job. If nothing is swept, the job is named after all overrides.

    Args:
        overrides: Overrides of the command line.
        swept_before: Keys that an earlier command swept in the same folder.
        max_jobs: Largest number of jobs.

    Raises:
        UserError: If a key has no values, or an interval instead of values, or if there are too many jobs.
    """
    if (total := math.prod(map(num_values, overrides))) > max_jobs:
        raise UserError(f"sweep.max_jobs={max_jobs}: the sweep has {total:,} jobs; give fewer values, or raise it")
    values = {override.get_key_element(): override_values(override) for override in overrides}
    keys = [key for key in values if not is_shared(key)]
    multiple = {override.get_key_element() for override in overrides if override.is_sweep_override()}
    if shared := [key for key in multiple if is_shared(key)]:
        raise UserError(f"{shared[0]}: cannot be swept, all jobs share it; give one value")
    swept = sorted(key for key in keys if key in multiple or key in swept_before) or sorted(keys)
    base = [value for key in values if key not in swept for value in values[key]]
    combinations = list(itertools.product(*(dict.fromkeys(values[key]) for key in swept)))
    names = [job_name(combination) for combination in combinations]
    counts = Counter(name.casefold() for name in names)  # macOS and Windows take A and a for the same folder
    names = [f"{name}-{short_hash(name)}" if counts[name.casefold()] > 1 else name for name in names]
    return Plan(base, swept, [Job(*job) for job in zip(names, map(list, combinations), strict=True)])


def is_shared(key: str) -> bool:
    """Return whether a key belongs to the sweep as a whole rather than to its jobs."""
    return key in SHARED_KEYS or key.startswith("sweep.")


def num_values(override: Override) -> int:
    """Return the number of values of an override, without listing them: a range may have billions.

    Raises:
        UserError: If a range has no end.
    """
    value = override.value()
    if isinstance(value, RangeSweep):
        start, stop = value.start or 0, value.stop
        assert stop is not None
        try:
            return max(0, math.ceil((stop - start) / value.step))
        except (ArithmeticError, ValueError) as error:  # a step of 0, infinity or NaN
            line = "not a range; use finite numbers, and a step other than 0"
            raise UserError(f"{override.input_line}: {line}") from error
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def override_values(override: Override) -> list[str]:
    """Return key=value for each value of an override."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: a grid needs a list; use {key}=1,2,3, or hydra/sweeper=optuna for an interval"
        )
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise UserError(f"{override.input_line}: no values; give some, as in {key}=1,2,3")
    return values


def job_name(overrides: Sequence[str]) -> str:
    """Return a folder name for these overrides: their text, or its start and a hash if it is too long or unsafe."""
    text = ",".join(override.lstrip("+") for override in overrides)
    if re.fullmatch(r"\w[\w.=,+-]*", text, re.ASCII) and len(text) <= MAX_NAME_LENGTH:
        return text
    prefix = re.sub(r"[^\w.=,+-]+", "-", text, flags=re.ASCII)[: MAX_NAME_LENGTH - 9].strip("-.")
    return f"{prefix}-{short_hash(text)}" if text else "defaults"


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
