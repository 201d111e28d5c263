"""Mistakes that would cost a sweep hours are found before its first job; a locked study costs no trial."""

import sqlite3
import time
from pathlib import Path

import pytest
from conftest import NO_PICTURES, Command
from explained import assert_explained

from pytorch_intro.sweeps.optuna import search

FEW = ["-m", "data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "name=s"]
FEW += [*NO_PICTURES, "logger=none"]
SEARCH = [*FEW, "hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(0.01,0.5))"]


@pytest.mark.parametrize("values", [["seed=range(100000000)"], ["seed=range(40)", "data.split_seed=range(50)"]])
def test_too_many_jobs_are_refused_immediately(command: Command, tmp_path: Path, values: list[str]) -> None:
    started = time.monotonic()
    answer = command(*FEW, *values)
    assert answer.code == 2
    assert time.monotonic() - started < 10
    assert_explained(answer.err, values, ["sweep.max_jobs=1000"], r"100,000,000 jobs|2,000 jobs", "fewer values")
    assert not (tmp_path / "outputs" / "sweeps" / "s").exists()


def test_the_largest_number_of_jobs_is_a_setting(command: Command) -> None:
    assert "the sweep has 3 jobs" in command(*FEW, "seed=0,1,2", "sweep.max_jobs=2").err
    assert command(*FEW, "seed=0,1", "sweep.max_jobs=2").code == 0


def test_a_missing_data_root_of_any_job_is_found_before_the_first_one(command: Command, tmp_path: Path) -> None:
    roots = f"data.root={tmp_path},{tmp_path / 'missing'}"
    answer = command(*FEW, "data=folder", roots)
    assert answer.code == 2
    assert_explained(answer.err, [roots], ["missing"], "no such folder", "no job was started")


def test_resume_with_m_is_one_error(command: Command, finished_run: Path) -> None:
    answer = command("-m", f"resume={finished_run}")
    assert answer.code == 2
    assert_explained(answer.err, [], ["resume="], "continues one run", "leave out -m")


@pytest.mark.parametrize("when", ["at the start", "within the search"])
def test_a_locked_study_is_reported_and_keeps_its_trials(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The search waits before it gives up, and continues when it is run again."""
    monkeypatch.setattr(search, "LOCK_TIMEOUT", 0.2)
    study = tmp_path / "outputs" / "sweeps" / "s" / "study.db"
    assert command(*SEARCH, "hydra.sweeper.n_trials=1").code == 0
    other = sqlite3.connect(study, check_same_thread=False, isolation_level=None)
    run_trials = search.run_trials
    if when == "at the start":
        other.execute("BEGIN EXCLUSIVE")
    else:

        def lock_and_run(*arguments: object) -> object:
            other.execute("BEGIN EXCLUSIVE")
            return run_trials(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(search, "run_trials", lock_and_run)
    answer = command(*SEARCH, "hydra.sweeper.n_trials=2")
    other.execute("ROLLBACK")
    monkeypatch.setattr(search, "run_trials", run_trials)
    assert answer.code == 1
    assert_explained(answer.err, [], [str(study)], "locked by another program", "close it")
    assert "overwrite" not in answer.err
    other.close()
    assert command(*SEARCH, "hydra.sweeper.n_trials=2").code == 0
    assert sorted(path.parent.name for path in study.parent.glob("*/result.json")) == ["trial-0000", "trial-0001"]
