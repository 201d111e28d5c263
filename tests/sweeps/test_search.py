"""Searches with Optuna: seeded, stored on disk, resumable, pruned."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import optuna
import pytest
import torch
import yaml
from conftest import NO_PICTURES, Command, Process, compose, epochs_trained, read_summary, wait_until
from explained import ABOVE_0, UNKNOWN, WRONG_VALUE, assert_explained
from hydra.core.override_parser.overrides_parser import OverridesParser
from instant_jobs import finish_at_once
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import OmegaConf
from optuna.trial import TrialState
from torch import nn

from pytorch_intro.commands import train
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.sweeps import runner
from pytorch_intro.sweeps.optuna.pruning import Pruning
from pytorch_intro.sweeps.optuna.search import FOLDER, default_params, open_storage
from pytorch_intro.sweeps.optuna.search_space import search_space

SEARCH = ["-m", "hydra/sweeper=optuna", "data=sample", "trainer=cpu", *NO_PICTURES, "logger=none"]
SEARCH += ["trainer.max_epochs=1", "name=s"]
FEW = [*SEARCH, "trainer.limit_train_batches=2"]
RATE = "optimizer.lr=tag(log,interval(0.01,0.5))"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


@pytest.fixture
def instant_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", finish_at_once)


def trials(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="sweep", storage=open_storage(sweep / "study.db")).trials


@pytest.mark.usefixtures("instant_jobs")
def test_a_search_continues_with_more_trials(command: Command, sweep: Path) -> None:
    """The first trial has the config's own values, and the study contains the result of each run."""
    first = command(*FEW, RATE, "hydra.sweeper.n_trials=1")
    assert first.code == 0
    assert "\n1 job: 1 finished\n" in first.out
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
    answer = command(*FEW, RATE, "hydra.sweeper.n_trials=3")
    assert answer.code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    results = [json.loads((sweep / f"trial-{n:04d}" / "result.json").read_text()) for n in range(3)]
    assert [trial.value for trial in trials(sweep)] == [result["val/accuracy"] for result in results]
    default = (PROJECT / "conf" / "optimizer" / "muon.yaml").read_text()
    assert f"lr: {trials(sweep)[0].params['optimizer.lr']}" in default
    rows = read_summary(sweep)
    assert len({row["optimizer.lr"] for row in rows}) == 3
    assert all(0.01 <= float(row["optimizer.lr"]) <= 0.5 for row in rows)
    assert "best run:" in answer.out
    assert "\n3 jobs: 3 finished\n" in answer.out


@pytest.mark.usefixtures("instant_jobs")
def test_equal_seeds_sample_equal_values_and_other_seeds_other_values(command: Command, tmp_path: Path) -> None:
    sampled = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = [*SEARCH[:-1], f"name={name}", "optimizer.lr=interval(0.2,0.5)"]  # without the default
        assert command(*options, "hydra.sweeper.n_trials=1", f"hydra.sweeper.seed={seed}").code == 0
        sampled.append([trial.params for trial in trials(tmp_path / "outputs" / "sweeps" / name)])
    assert sampled[0] == sampled[1] != sampled[2]


@pytest.mark.usefixtures("instant_jobs")
def test_failed_trials_are_recorded_and_retried_in_the_same_folders(command: Command, sweep: Path) -> None:
    """Negative batch sizes are rejected before training."""
    space = ["data.batch_size=choice(64,-1,-2)", "hydra.sweeper.n_trials=3", "hydra.sweeper.seed=2"]
    first = command(*FEW, *space)
    assert first.code == 1
    states = [(int(trial.params["data.batch_size"]), trial.state) for trial in trials(sweep)]
    assert {state for _, state in states} == {TrialState.COMPLETE, TrialState.FAIL}
    assert all((state == TrialState.COMPLETE) == (size > 0) for size, state in states)
    assert {row["status"] for row in read_summary(sweep)} == {"finished", "failed"}
    second = command(*FEW, *space)
    assert second.code == 1
    assert len(read_summary(sweep)) == 3
    assert [path.name for path in sorted(sweep.glob("trial-*"))] == ["trial-0000", "trial-0001", "trial-0002"]


@pytest.mark.usefixtures("instant_jobs")
def test_invalid_combinations_do_not_stop_a_search(command: Command, sweep: Path) -> None:
    """The mlp has no setting model.width; the summary contains the reason."""
    space = ["model=choice(cnn,mlp)", "model.width=choice(8,12)", "hydra.sweeper.n_trials=4"]
    answer = command(*FEW, *space)
    assert answer.code == 1
    rows = {row["model"]: row for row in read_summary(sweep)}
    assert rows["cnn"]["status"] == "finished"
    assert rows["mlp"]["status"] == "failed"
    assert "model=mlp" in rows["mlp"]["reason"]


@pytest.mark.usefixtures("instant_jobs")
def test_a_single_value_replaces_a_range_of_the_search_space(command: Command, sweep: Path) -> None:
    """This narrows a predefined search space."""
    assert command(*FEW, "search=cnn", "optimizer.lr=0.04", "hydra.sweeper.n_trials=1").code == 0
    (trial,) = trials(sweep)
    assert "optimizer.lr" not in trial.params
    assert "lr: 0.04" in (sweep / "trial-0000" / "config.yaml").read_text()


def test_a_killed_search_resumes_its_trial(command: Command, tmp_path: Path, sweep: Path) -> None:
    """All processes are killed with kill -9 in the third epoch of the second trial; only that trial is resumed."""
    arguments = [*SEARCH, "model=mlp", "trainer.max_epochs=6", RATE, "hydra.sweeper.n_trials=2"]
    process = Process(*arguments, f"outputs={tmp_path / 'outputs'}")
    wait_until(lambda: epochs_trained(sweep / "trial-0001") >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    values = [trial.params for trial in trials(sweep)]
    assert len(values) == 2
    assert command(*arguments).code == 0
    assert [trial.state for trial in trials(sweep)] == [TrialState.COMPLETE] * 2
    assert [trial.params for trial in trials(sweep)] == values
    assert epochs_trained(sweep / "trial-0000") == 6
    assert epochs_trained(sweep / "trial-0001") in (6, 7)


def test_bad_trials_are_pruned(command: Command, sweep: Path) -> None:
    """Trials with a learning rate near zero are pruned once four other trials are finished."""
    space = ["optimizer.lr=choice(0.05,1e-9)", "hydra.sweeper.n_trials=6", "hydra.sweeper.seed=4"]
    few = ["model=mlp", "trainer.max_epochs=3", "trainer.limit_train_batches=4", "sweep.objective=val/loss"]
    assert command(*SEARCH, *few, *space, "hydra.sweeper.pruner=median").code == 0
    all_trials = trials(sweep)
    fourth = [trial.number for trial in all_trials if trial.state == TrialState.COMPLETE][3]
    bad = [trial for trial in all_trials if trial.number > fourth and float(trial.params["optimizer.lr"]) < 1e-6]
    assert bad
    assert {trial.state for trial in bad} == {TrialState.PRUNED}
    rows = {row["job"]: row for row in read_summary(sweep)}
    for trial in bad:
        row = rows[trial.user_attrs["folder"]]
        assert row["status"] == "pruned"
        assert "worse than other trials" in row["reason"]
        assert epochs_trained(sweep / row["job"]) < 3
    assert any(trial.state == TrialState.COMPLETE for trial in all_trials if float(trial.params["optimizer.lr"]) > 1e-6)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_trials_are_pruned_by_their_accuracy_even_if_the_objective_is_a_loss(
    direction: Literal["maximize", "minimize"], tmp_path: Path
) -> None:
    storage = open_storage(tmp_path / "study.db")
    study = optuna.create_study(storage=storage, study_name="sweep", direction=direction)
    pruned = []
    for number, accuracy in enumerate([0.5, 0.5, 0.5, 0.5, 0.4, 0.6]):
        trial = study.ask()
        trial.set_user_attr(FOLDER, str(number))
        (tmp_path / str(number)).mkdir()
        pruning = Pruning(str(tmp_path / str(number)), "median")
        trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=1)
        trainer.callback_metrics = {"val/accuracy": torch.tensor(accuracy)}
        pruning.on_fit_start(trainer, nn.Identity())  # type: ignore[arg-type]
        if pruning.reason_to_prune(trainer):
            pruned.append(accuracy)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 0.0)
    assert pruned == [0.4]


def test_a_validation_before_the_first_epoch_is_not_reported(tmp_path: Path) -> None:
    """As finetune=gradual has one: the study would take it for the first epoch."""
    study = optuna.create_study(storage=open_storage(tmp_path / "study.db"), study_name="sweep")
    study.ask().set_user_attr(FOLDER, "0")
    (tmp_path / "0").mkdir()
    pruning = Pruning(str(tmp_path / "0"), "median")
    trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=0, sanity_checking=False)
    trainer.state, trainer.strategy = (
        SimpleNamespace(fn=TrainerFn.FITTING),
        SimpleNamespace(broadcast=lambda text: text),
    )
    pruning.on_fit_start(trainer, nn.Identity())  # type: ignore[arg-type]
    for trainer.global_step, accuracy in ((0, 0.9), (5, 0.4)):
        trainer.callback_metrics = {"val/accuracy": torch.tensor(accuracy)}
        pruning.on_validation_end(trainer, nn.Identity())  # type: ignore[arg-type]
    assert list(study.trials[0].intermediate_values) == [0]
    assert abs(study.trials[0].intermediate_values[0]) == pytest.approx(0.4)


# Arguments, names that the message contains, and regular expressions of its problem and its remedy.
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
def test_an_invalid_search_gives_a_one_line_error(
    command: Command, sweep: Path, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    answer = command(*FEW, *arguments)
    assert answer.code == 2, answer
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not list(sweep.glob("*/config.yaml"))


@pytest.mark.parametrize(
    ("target", "option", "extra"),
    [
        ("hydra_plugins.sweepers.OptunaSweeper", "hydra/sweeper=optuna", "search"),
        ("hydra_plugins.launchers.RayLauncher", "hydra/launcher=ray", "scale"),
        ("hydra_plugins.launchers.SlurmLauncher", "hydra/launcher=slurm", "scale"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, target: str, option: str, extra: str
) -> None:
    assert target in runner.PLUGIN_PACKAGES
    monkeypatch.setitem(runner.PLUGIN_PACKAGES, target, (option, ("no_such_package",), extra))
    answer = command("-m", "data=sample", option, "seed=0,1")
    assert answer.code == 2
    install = rf"run pip install -r requirements-{extra}\.txt"
    assert_explained(answer.err, [option], [option], "no_such_package not installed", install)


def test_the_predefined_search_space_contains_the_default() -> None:
    """So that the first trial of search=cnn has the values of the config."""
    space = yaml.safe_load((PROJECT / "conf" / "search" / "cnn.yaml").read_text())["hydra"]["sweeper"]["params"]
    overrides = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in space.items()])
    params = default_params(search_space(overrides), compose(), OmegaConf.create({}))
    assert set(params) == set(space)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ("optimizer.lr=interval(0.01,0.5)", 0.07),
        ("optimizer.lr=interval(0.2,0.5)", None),
        ("trainer.max_epochs=int(interval(1,9))", 6),
        ("trainer.max_epochs=int(interval(7,9))", None),
        ("trainer.max_epochs=range(2,12,2)", 6),
        ("trainer.max_epochs=range(1,10,3)", None),
        ("trainer.gradient_clip_val=interval(0.1,1)", None),
        ("trainer.gradient_clip_val=null,1", "null"),
        ("optimizer.weight_decay=choice(5e-2,0.1)", "0.05"),
        ("optimizer.weight_decay=choice(0.1,0.2)", None),
        ("model.cosine_stem=choice(true,false)", "True"),
        ("data.image_size=choice(28,32)", None),
    ],
)
def test_values_of_the_config_outside_the_space_are_printed_and_left_out(
    values: str, start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every kind of space; a value inside is that of the first trial, and nothing is printed."""
    key = values.partition("=")[0]
    config = compose("optimizer.lr=0.07", "trainer.max_epochs=6", "optimizer.weight_decay=0.05")
    space = search_space(OverridesParser.create().parse_overrides([values]))
    assert default_params(space, config, OmegaConf.create({})) == ({} if start is None else {key: start})
    assert (f"{key}=" in capsys.readouterr().out) == (start is None)


@pytest.mark.usefixtures("instant_jobs")
def test_the_first_trial_has_the_config_values_that_the_space_contains(command: Command, sweep: Path) -> None:
    """The batch size of the sample is not in the space of search=cnn: it is printed, and the other values are kept."""
    sample = compose("data=sample")
    answer = command(*FEW, "search=cnn", "hydra.sweeper.n_trials=1")
    assert answer.code == 0, answer.err
    assert f"data.batch_size={sample.data.batch_size} is not in the search space" in answer.out
    (trial,) = trials(sweep)
    assert int(trial.params["data.batch_size"]) != sample.data.batch_size
    others = [key for key in trial.params if key != "data.batch_size"]
    assert len(others) == 6
    assert [trial.params[key] for key in others] == [
        str(value) if isinstance(trial.params[key], str) else value
        for key in others
        for value in [OmegaConf.select(sample, key)]
    ]
