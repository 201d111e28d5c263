"""Overrides are converted to the jobs of a sweep, or to the search space of Optuna."""

from collections.abc import Sequence

import pytest
from explained import assert_facts
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pytorch_intro.common.errors import UserError
from pytorch_intro.sweeps.optuna.search_space import search_space
from pytorch_intro.sweeps.plan import MAX_NAME_LENGTH, job_name, plan_grid

ENDLESS = (
    "range(0,10,0)", "range(0,1,0.0)", "range(0,0,0)", "range(0,inf)", "range(nan)", "range(0,1,nan)",
    "shuffle(range(0,1,0))", "shuffle(range(0,inf))", "sort(range(0,10,0))", "tag(a,range(0,10,0))",
)  # fmt: skip


def parsed(*overrides: str) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))


def names(overrides: Sequence[str], swept_before: Sequence[str] = ()) -> list[str]:
    return [job.name for job in plan_grid(parsed(*overrides), swept_before).jobs]


def test_a_grid_has_one_job_per_combination_named_after_the_swept_values() -> None:
    plan = plan_grid(parsed("seed=range(2)", "data=sample", "optimizer.lr=0.1,0.20", "name=rates"))
    assert [job.name for job in plan.jobs] == [
        "optimizer.lr=0.1,seed=0", "optimizer.lr=0.1,seed=1", "optimizer.lr=0.2,seed=0", "optimizer.lr=0.2,seed=1",
    ]  # fmt: skip
    assert plan.base == ["data=sample", "name=rates"]
    assert plan.jobs[0].overrides == ["optimizer.lr=0.1", "seed=0"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [("range(3,0,-1)", "3 2 1"), ("range(1,0,-0.5)", "1.0 0.5"), ("range(-2,0)", "-2 -1"), ("range(0,1,5)", "0")],
)
def test_a_range_may_go_down_or_be_negative(values: str, expected: str) -> None:
    assert names([f"seed={values}"]) == [f"seed={value}" for value in expected.split()]


def test_job_names_do_not_depend_on_the_order_of_overrides() -> None:
    assert sorted(names(["seed=0,1", "model=cnn,mlp"])) == sorted(names(["model=mlp,cnn", "seed=1,0"]))


def test_a_single_value_of_a_swept_key_adds_one_job() -> None:
    assert names(["optimizer.lr=0.3", "data=sample"], ["optimizer.lr"]) == ["optimizer.lr=0.3"]


def test_without_swept_keys_the_job_is_named_after_all_overrides() -> None:
    assert names(["seed=3", "name=one"]) == ["seed=3"]
    assert names(["name=one"]) == ["defaults"]


def test_special_and_long_values_give_unique_and_safe_folder_names() -> None:
    values = ["[flip,crop]", "[flip, crop]", "[flip/crop]", "'a b'", "'a-b'", "é", "x" * 200, "x" * 201]
    job_names = [job_name([f"data/augment={value}"]) for value in values]
    assert len(set(job_names)) == len(values)
    assert all(len(name) <= MAX_NAME_LENGTH and not set(name) & set("/\\ []'\"é") for name in job_names)
    assert job_name(["seed=1"]) == "seed=1"


def test_names_that_differ_by_case_only_are_distinct_folders_on_every_system() -> None:
    folders = names(["model=a,A,b"])
    assert len({name.casefold() for name in folders}) == 3
    assert folders[2] == "model=b"


@pytest.mark.parametrize(
    ("override", "name", "problem", "remedy"),
    [
        ("seed=range(0)", "seed=range(0)", "no values", "seed=1,2,3"),
        ("seed=range(0,10,-1)", "seed=range(0,10,-1)", "no values", "seed=1,2,3"),
        ("seed=range(10,0)", "seed=range(10,0)", "no values", "seed=1,2,3"),
        *((f"x={odd}", f"x={odd}", "not a range", "finite numbers, and a step other than 0") for odd in ENDLESS),
        ("optimizer.lr=interval(0.1,1)", "optimizer.lr=interval(0.1,1)", "grid", "hydra/sweeper=optuna"),
        ("name=a,b", "name", "all jobs", "one value"),
        ("sweep.objective=val/loss,val/accuracy", "sweep.objective", "all jobs", "one value"),
    ],
)
def test_an_invalid_grid_raises_an_error_with_a_remedy(override: str, name: str, problem: str, remedy: str) -> None:
    with pytest.raises(UserError) as error:
        plan_grid(parsed(override))
    assert_facts(str(error.value), [override], [name], problem, remedy)


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("x=interval(0.1,0.9)", FloatDistribution(0.1, 0.9)),
        ("x=tag(log,interval(1e-4,0.1))", FloatDistribution(1e-4, 0.1, log=True)),
        ("x=interval(2,8)", FloatDistribution(2.0, 8.0)),
        ("x=int(interval(2,8))", IntDistribution(2, 8)),
        ("x=range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("x=range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("x=choice(cnn,mlp)", CategoricalDistribution(["cnn", "mlp"])),
        ("x=[flip],[flip,crop]", CategoricalDistribution(["[flip]", "[flip,crop]"])),
    ],
)
def test_hydra_sweeps_convert_to_optuna_distributions(override: str, distribution: object) -> None:
    assert search_space(parsed(override, "y=3")) == {"x": distribution}


@pytest.mark.parametrize(
    ("override", "name", "problem", "remedy"),
    [
        ("x=3", "hydra/sweeper=optuna", "nothing to search", "interval.*search=cnn"),
        ("x=interval(2.0,1.0)", "x=interval(2.0,1.0)", r"low=2\.0, high=1\.0", "low <= high|swap"),
        ("x=tag(log,interval(0.0,1.0))", "x=tag(log,interval(0.0,1.0))", r"low=0\.0", "low > 0|above 0"),
        *((f"x={odd}", f"x={odd}", "not a range", "finite numbers, and a step other than 0") for odd in ENDLESS),
        ("x=range(5,1)", "x=range(5,1)", "no values", "step.*from start towards stop"),
        ("x=interval(0.0,inf)", "x=interval(0.0,inf)", "both ends", "numbers|finite"),
    ],
)
def test_an_invalid_search_space_raises_an_error_with_a_remedy(
    override: str, name: str, problem: str, remedy: str
) -> None:
    with pytest.raises(UserError) as error:
        search_space(parsed(override))
    assert_facts(str(error.value), [override], [name], problem, remedy)
