"""From `-m optimizer.lr=0.01,0.1 seed=0,1` to the jobs of a sweep, and what they have in common."""

import hashlib
import itertools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hydra.core.override_parser.types import Override

from pytorch_intro.errors import UserError

COMMON = ("name", "outputs", "overwrite", "allow", "resume")  # settings that no job is told apart by
LONGEST_NAME = 100  # characters


class Job(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: Of its folder.
        overrides: What it has of its own, key=value each.
    """

    name: str
    overrides: list[str]


class Plan(NamedTuple):
    """A grid of jobs.

    Attributes:
        base: What all jobs have in common, key=value each.
        swept: Keys that the jobs are told apart by.
        jobs: One for each combination of values.
    """

    base: list[str]
    swept: list[str]
    jobs: list[Job]


def plan_grid(overrides: Sequence[Override], swept_before: Collection[str] = ()) -> Plan:
    """All combinations of the values given.

    A job is named by the keys that have several values, now or when the sweep was run before, so that one value more,
    given alone or beside the others, is one job more. Where none has, it is named by all that is given.

    Raises:
        UserError: if a key has no value, or an interval in the place of values.
    """
    values = {override.get_key_element(): values_of(override) for override in overrides}
    keys = [key for key in values if not is_common(key)]
    several = {override.get_key_element() for override in overrides if override.is_sweep_override()}
    if shared := [key for key in several if is_common(key)]:
        raise UserError(f"{shared[0]}: all jobs of a sweep have it in common; give one value")
    swept = sorted(key for key in keys if key in several or key in swept_before) or sorted(keys)
    base = [value for key in values if key not in swept for value in values[key]]
    combinations = itertools.product(*(dict.fromkeys(values[key]) for key in swept))
    return Plan(base, swept, [Job(job_name(combination), list(combination)) for combination in combinations])


def is_common(key: str) -> bool:
    """Whether it is a setting of the sweep as a whole, rather than of its runs."""
    return key in COMMON or key.startswith("sweep.")


def values_of(override: Override) -> list[str]:
    """key=value for each of its values."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: a grid needs values, as in {key}=1,2,3; hydra/sweeper=optuna searches in intervals"
        )
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise UserError(f"{override.input_line}: it holds no values; give some, as in {key}=1,2,3")
    return values


def job_name(overrides: Sequence[str]) -> str:
    """A folder's name for these overrides: they themselves, or their beginning and a digest where they are no name."""
    text = ",".join(override.lstrip("+") for override in overrides)
    if re.fullmatch(r"\w[\w.=,+-]*", text, re.ASCII) and len(text) <= LONGEST_NAME:
        return text
    beginning = re.sub(r"[^\w.=,+-]+", "-", text, flags=re.ASCII)[: LONGEST_NAME - 9].strip("-.")
    return f"{beginning}-{hashlib.sha256(text.encode()).hexdigest()[:8]}" if text else "defaults"
