"""Searches with Optuna: seeded, saved on disk, resumed."""

import json
import os
import re
import signal
from pathlib import Path

import optuna
import pytest
import yaml
from conftest import NO_PICTURES, Command, Process, compose, epochs_trained, read_summary, wait_until
from explained import ABOVE_0, UNKNOWN, WRONG_VALUE, assert_explained
from omegaconf import OmegaConf
from optuna.trial import TrialState

from pytorch_intro.config.paths import PROJECT
from pytorch_intro.sweeps import runner
from pytorch_intro.sweeps.optuna.search import open_storage

SEARCH = ["-m", "hydra/sweeper=optuna", "data=sample", "trainer=cpu", *NO_PICTURES, "logger=none"]
SEARCH += ["trainer.max_epochs=1", "name=s"]
FEW = [*SEARCH, "trainer.limit_train_batches=2"]
RATE = "optimizer.lr=tag(log,interval(0.01,0.5))"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


def trials(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="sweep", storage=open_storage(sweep / "study.db")).trials


def test_a_search_is_saved_and_continues_to_more_trials(command: Command, sweep: Path) -> None:
    """The first trial has the config's own values; the study holds what each run recorded."""
    assert command(*FEW, RATE, "hydra.sweeper.n_trials=2").code == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
    answer = command(*FEW, RATE, "hydra.sweeper.n_trials=4")
    assert answer.code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    results = [json.loads((sweep / f"trial-{n:04d}" / "result.json").read_text()) for n in range(4)]
    assert [trial.value for trial in trials(sweep)] == [result["val/accuracy"] for result in results]
    default = (PROJECT / "conf" / "optimizer" / "muon.yaml").read_text()
    assert f"lr: {trials(sweep)[0].params['optimizer.lr']}" in default
    rows = read_summary(sweep)
    assert len({row["optimizer.lr"] for row in rows}) == 4
    assert all(0.01 <= float(row["optimizer.lr"]) <= 0.5 for row in rows)
    assert "best run:" in answer.out


def test_equal_seeds_sample_equal_values_and_other_seeds_do_not(command: Command, tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = [*SEARCH[:-1], f"name={name}", "trainer.fast_dev_run=true", RATE]
        assert command(*options, "hydra.sweeper.n_trials=2", f"hydra.sweeper.seed={seed}").code == 0
        drawn.append([trial.params for trial in trials(tmp_path / "outputs" / "sweeps" / name)])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_failed_trial_is_recorded_skipped_and_retried(command: Command, sweep: Path) -> None:
    """Some values do not go together, and are found to be wrong before the training."""
    space = ["data.batch_size=choice(64,-1,-2)", "hydra.sweeper.n_trials=3", "hydra.sweeper.seed=2"]
    first = command(*FEW, *space)
    assert first.code == 1
    states = [(int(trial.params["data.batch_size"]), trial.state) for trial in trials(sweep)]
    assert {state for _, state in states} == {TrialState.COMPLETE, TrialState.FAIL}
    assert all((state == TrialState.COMPLETE) == (size > 0) for size, state in states)
    assert {row["status"] for row in read_summary(sweep)} == {"finished", "failed"}
    second = command(*FEW, *space)
    assert second.code == 1
    assert len(read_summary(sweep)) == 3  # in the same folders
    assert [path.name for path in sorted(sweep.glob("trial-*"))] == ["trial-0000", "trial-0001", "trial-0002"]


def test_invalid_combinations_do_not_stop_a_search(command: Command, sweep: Path) -> None:
    """model.width is no setting of the mlp; of its trials the reason is told."""
    space = ["model=choice(cnn,mlp)", "model.width=choice(8,12)", "hydra.sweeper.n_trials=4"]
    answer = command(*FEW, *space)
    assert answer.code == 1
    rows = {row["model"]: row for row in read_summary(sweep)}
    assert rows["cnn"]["status"] == "finished"
    assert rows["mlp"]["status"] == "failed"
    assert "model=mlp" in rows["mlp"]["reason"]


def test_the_last_value_of_a_key_wins(command: Command, sweep: Path) -> None:
    """So that a ready space can be narrowed."""
    assert command(*FEW, "search=cnn", "optimizer.lr=0.04", "hydra.sweeper.n_trials=1").code == 0
    (trial,) = trials(sweep)
    assert "optimizer.lr" not in trial.params
    assert "lr: 0.04" in (sweep / "trial-0000" / "config.yaml").read_text()


def test_a_killed_search_resumes_its_trial(command: Command, tmp_path: Path, sweep: Path) -> None:
    """By kill -9 of all its processes, in the third epoch of the second trial; nothing else is trained again."""
    options = [option for option in SEARCH if "max_epochs" not in option]
    arguments = [*options, "model=mlp", "trainer.max_epochs=6", RATE, "hydra.sweeper.n_trials=3"]
    process = Process(*arguments, f"outputs={tmp_path / 'outputs'}")
    wait_until(lambda: epochs_trained(sweep / "trial-0001") >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    values = [trial.params for trial in trials(sweep)]
    assert command(*arguments).code == 0
    assert [trial.state for trial in trials(sweep)] == [TrialState.COMPLETE] * 3
    assert [trial.params for trial in trials(sweep)][: len(values)] == values
    assert [epochs_trained(sweep / f"trial-000{number}") for number in (0, 2)] == [6, 6]
    assert epochs_trained(sweep / "trial-0001") in (6, 7)


@pytest.mark.parametrize("objective", ["val/accuracy", "val/loss"])
def test_hopeless_trials_are_pruned(command: Command, sweep: Path, objective: str) -> None:
    """With a learning rate of almost nothing; as soon as there are four trials to compare with."""
    space = ["optimizer.lr=choice(0.05,1e-9)", "hydra.sweeper.n_trials=6", "hydra.sweeper.seed=4"]
    few = ["model=mlp", "trainer.max_epochs=3", "trainer.limit_train_batches=4"]
    options = [*SEARCH[:-2], SEARCH[-1], *few, f"sweep.objective={objective}"]
    assert command(*options, *space, "hydra.sweeper.pruner=median").code == 0
    made = trials(sweep)
    fourth = [trial.number for trial in made if trial.state == TrialState.COMPLETE][3]
    hopeless = [trial for trial in made if trial.number > fourth and float(trial.params["optimizer.lr"]) < 1e-6]
    assert hopeless
    assert {trial.state for trial in hopeless} == {TrialState.PRUNED}
    rows = {row["job"]: row for row in read_summary(sweep)}
    for trial in hopeless:
        row = rows[trial.user_attrs["folder"]]
        assert row["status"] == "pruned"
        assert "worse than other trials" in row["reason"]
        assert epochs_trained(sweep / row["job"]) < 3
    assert any(trial.state == TrialState.COMPLETE for trial in made if float(trial.params["optimizer.lr"]) > 1e-6)


# Of each: the arguments, the names that the message has, and regular expressions of its problem and its remedy.
MISTAKES = [
    ([RATE, "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0"], WRONG_VALUE, ABOVE_0),
    ([RATE, "hydra.sweeper.pruner=best"], ["hydra.sweeper.pruner=best"], WRONG_VALUE, "'median' or 'asha'"),
    ([RATE, "sweep.objective=val/f1"], ["sweep.objective=val/f1"], WRONG_VALUE, "'val/accuracy', 'val/loss'"),
    (
        ["optimizer.lr=interval(0.5,0.1)"],
        ["optimizer.lr=interval(0.5,0.1)"],
        r"low=0\.5, high=0\.1",
        "low <= high|swap",
    ),
    (["optimizer.lr=interval(0.5)"], ["optimizer.lr=interval(0.5)"], "[Mm]issing", "'end'"),
    (["optimizer.lr=0.1"], ["hydra/sweeper=optuna"], "nothing to search", "interval.*search=cnn"),
    (["optimizer.lrr=interval(0.1,0.5)"], ["optimizer.lrr"], UNKNOWN, r"did you mean optimizer\.lr\b"),
]


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES)
def test_what_is_no_search_is_one_line(
    command: Command, sweep: Path, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    answer = command(*FEW, *arguments)
    assert answer.code == 2, answer
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not list(sweep.glob("*/config.yaml"))


@pytest.mark.parametrize(
    ("module", "option", "extra"),
    [
        ("hydra_plugins.optuna_sweeper", "hydra/sweeper=optuna", "search"),
        ("hydra_plugins.ray_launcher", "hydra/launcher=ray", "scale"),
        ("hydra_plugins.slurm_launcher", "hydra/launcher=slurm", "scale"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, module: str, option: str, extra: str
) -> None:
    monkeypatch.setitem(runner.PLUGIN_PACKAGES, module, (option, ("no_such_package",), extra))
    answer = command("-m", "data=sample", option, "seed=0,1")
    assert answer.code == 2
    install = rf"pip install -r requirements-{extra}\.txt"
    assert_explained(answer.err, [option], [option], "no_such_package is not installed", install)


def test_the_predefined_search_space_contains_the_default(command: Command, sweep: Path) -> None:
    """search=cnn; its first trial is the default."""
    ready = yaml.safe_load((PROJECT / "conf" / "search" / "cnn.yaml").read_text())["hydra"]["sweeper"]["params"]
    sizes = [int(size) for size in re.findall(r"\d+", ready["data.batch_size"])]
    assert compose().data.batch_size in sizes
    sample = compose("data=sample")
    sizes.append(sample.data.batch_size)  # which are smaller than those of the default
    answer = command(*FEW, "search=cnn", f"data.batch_size={','.join(map(str, sizes))}", "hydra.sweeper.n_trials=1")
    assert answer.code == 0, answer.err
    (trial,) = trials(sweep)
    assert set(trial.params) == set(ready)
    assert trial.state == TrialState.COMPLETE
    trained = OmegaConf.load(sweep / "trial-0000" / "config.yaml")
    assert [key for key in ready if OmegaConf.select(trained, key) != OmegaConf.select(sample, key)] == []
