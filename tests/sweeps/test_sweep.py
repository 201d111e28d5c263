"""Sweeps from the command line: failed, interrupted and finished jobs, and the summary."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from conftest import NO_PICTURES, Command, Process, epochs_trained, read_summary, wait_until
from explained import BOOLEAN, UNKNOWN, WRONG_VALUE, assert_explained
from instant_jobs import fail_at_once, finish_at_once
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from PIL import Image

from pytorch_intro.commands import train
from pytorch_intro.sweeps.folder import Record, SweepFolder
from pytorch_intro.sweeps.plot import plot_key
from pytorch_intro.sweeps.summary import Group

FEW = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
FEW += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", *NO_PICTURES, "logger=none", "name=s"]
BROKEN = "+callbacks.flaky._target_=test_sweep.Broken"


class Broken(Callback):
    """Fail when training starts, unless a file exists."""

    def __init__(self, unless: str) -> None:
        self.unless = Path(unless)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.unless.exists():
            raise RuntimeError("it is broken")


class Remover(Callback):
    """Remove the sweep's folder when training ends."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        shutil.rmtree(Path(trainer.default_root_dir).parent)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "sweeps" / "s"


@pytest.fixture
def instant_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", finish_at_once)


@pytest.mark.usefixtures("instant_jobs")
@pytest.mark.pictures
def test_a_sweep_ranks_settings_by_their_mean_over_seeds(command: Command, sweep: Path) -> None:
    """The summary has mean, standard deviation, n and the command of the best run, in its files and on the terminal."""
    answer = command("-m", *FEW, "optimizer.lr=0.0001,0.05", "seed=0,1")
    assert answer.code == 0
    rows = read_summary(sweep)
    assert [row["status"] for row in rows] == ["finished"] * 4
    assert [row["rank"] for row in rows] == ["1", "1", "2", "2"]
    assert {row["n"] for row in rows} == {"2"}
    scores = [float(row["val/accuracy"]) for row in rows if row["rank"] == "1"]
    assert float(rows[0]["mean"]) == pytest.approx(sum(scores) / 2)
    assert float(rows[0]["std"]) == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    result = json.loads((sweep / rows[0]["job"] / "result.json").read_text())
    assert result["val/accuracy"] == float(rows[0]["val/accuracy"]) == max(float(row["val/accuracy"]) for row in rows)
    assert json.loads((sweep / "sweep.json").read_text())["best"] == rows[0]["job"]
    finished_run = pytest.importorskip("pytorch_intro.inference.finished_run")  # an optional capability
    assert finished_run.resolve_run(str(sweep), "") == str((sweep / rows[0]["job"]).resolve())
    text = (sweep / "summary.md").read_text()
    assert f"Best run: `{rows[0]['job']}`" in text
    best = f"best settings: optimizer.lr={rows[0]['optimizer.lr']}: val/accuracy {float(rows[0]['mean']):.4f} ± "
    assert best in answer.out
    assert best.capitalize() in text
    repeated = f"python src/train.py {' '.join([*FEW[:-1], *rows[0]['job'].split(',')])}"
    assert repeated in text
    assert repeated in answer.out
    picture = Image.open(sweep / "summary.png")
    assert picture.width > 300
    assert len(set(picture.convert("L").tobytes())) > 20


@pytest.mark.usefixtures("instant_jobs")
def test_no_fold_of_a_cross_validation_is_called_the_best_run(command: Command, sweep: Path) -> None:
    """Some validation images are merely easier; the mean counts."""
    answer = command("-m", *FEW, "data.num_folds=2", "data.fold=0,1")
    assert answer.code == 0
    mean, std = (float(read_summary(sweep)[0][name]) for name in ("mean", "std"))
    assert f"all runs: val/accuracy {mean:.4f} ± {std:.4f}, n=2\n" in answer.out
    assert "best run" not in answer.out.lower()
    assert "best run" not in (sweep / "summary.md").read_text().lower()


def test_labels_of_a_logarithmic_axis_are_those_of_the_values() -> None:
    """Those of the minor ticks between them would overlap."""
    axes, values = Figure().add_subplot(), ["0.01", "0.02", "0.05", "0.2", "0.5"]
    plot_key(axes, [Group({"optimizer.lr": value}) for value in values], "optimizer.lr", connect=True)
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == values
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))


def test_labels_of_close_values_on_a_logarithmic_axis_are_left_out() -> None:
    """They would overlap; each value has its tick."""
    axes, values = Figure().add_subplot(), ["0.01", "0.011", "0.012", "0.02", "0.3", "0.31"]
    plot_key(axes, [Group({"optimizer.lr": value}) for value in values], "optimizer.lr", connect=True)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "", "", "0.02", "0.3", ""]
    assert len(axes.get_xticks()) == len(values)


@pytest.mark.usefixtures("instant_jobs")
def test_finished_jobs_are_not_repeated_and_more_values_add_jobs(command: Command, sweep: Path) -> None:
    assert command("-m", *FEW, "seed=0,1").code == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
    assert len(before) == 2
    again = command("-m", *FEW, "seed=0,1,2")
    assert again.code == 0
    assert again.out.count("already finished") == 2
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert sorted(row["seed"] for row in read_summary(sweep)) == ["0", "1", "2"]


def test_settings_of_a_sweep_may_come_from_the_environment(
    command: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", "7")
    arguments = ["-m", *FEW, "optimizer.lr=0.01,0.02", "seed=${oc.env:SEED}"]
    answer = command(*arguments)
    assert answer.code == 0, answer.err
    assert "\nseed: 7\n" in (sweep / "optimizer.lr=0.01" / "config.yaml").read_text()
    assert command(*arguments).out.count("already finished") == 2
    monkeypatch.setenv("SEED", "8")
    refused = command(*arguments)
    assert (refused.code, "(seed: 7 → 8)" in refused.err) == (2, True), refused.err


def test_a_failed_job_does_not_stop_the_others_and_is_retried(command: Command, sweep: Path, tmp_path: Path) -> None:
    """One job fails once; the other fails every time, since its learning rate makes the loss infinite."""
    fixed = tmp_path / "fixed"
    broken = [BROKEN, f"+callbacks.flaky.unless={fixed}"]
    first = command("-m", *FEW, *broken, "optimizer=sgd", "optimizer.lr=0.01,1e30")
    assert first.code == 1
    assert first.err.count("error:") == 3  # one for each job, one for the sweep
    assert "2 of 2 jobs failed" in first.err
    assert (sweep / "optimizer.lr=0.01" / "error.txt").read_text().startswith("RuntimeError: it is broken\n\nTraceback")
    fixed.touch()
    second = command("-m", *FEW, *broken, "optimizer=sgd", "optimizer.lr=0.01,1e30")
    assert second.code == 1
    assert "1 of 2 jobs failed" in second.err
    rows = {row["optimizer.lr"]: row for row in read_summary(sweep)}
    assert rows["0.01"]["status"] == "finished"
    assert not (sweep / "optimizer.lr=0.01" / "error.txt").exists()
    assert rows["1e+30"]["status"] == "failed"
    assert "optimizer.lr" in rows["1e+30"]["reason"]
    assert rows["1e+30"]["reason"] in (sweep / "summary.md").read_text()


def test_fail_fast_starts_no_job_after_a_failure(
    command: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", fail_at_once)
    answer = command("-m", *FEW, "seed=0,1", "sweep.fail_fast=true")
    assert answer.code == 1
    assert [row["status"] for row in read_summary(sweep)] == ["failed", "unfinished"]


@pytest.mark.usefixtures("instant_jobs")
def test_a_sweep_with_a_different_config_is_refused_with_the_diff(command: Command, sweep: Path) -> None:
    assert command("-m", *FEW, "seed=0,1").code == 0
    record = (sweep / "sweep.json").read_text()
    for changed, difference in (
        (["trainer.max_epochs=2"], r"trainer\.max_epochs: 1\b.* 2\b"),
        (["model=mlp"], r"model\._target_: \S*\.CNN\b.*\.MLP\b.*model\.width: 16\b"),
    ):
        answer = command("-m", *FEW, *changed, "seed=2")
        assert answer.code == 2
        assert_explained(answer.err, changed, [str(sweep)], difference, "another name.*overwrite=true")
        assert (sweep / "sweep.json").read_text() == record
        assert len(list(sweep.glob("*/result.json"))) == 2


def test_a_rejected_sweep_does_not_touch_one_that_has_just_started(command: Command, sweep: Path) -> None:
    """The first sweep has locked its folder, but not written to it yet."""
    with SweepFolder(sweep).lock():
        (sweep / ".holder").unlink()
        answer = command("-m", *FEW, "seed=0,1")
        assert (answer.code, str(sweep) in answer.err) == (2, True), answer.err
        assert (sweep / ".lock").exists()


def test_deleting_the_folder_of_a_running_sweep_gives_a_one_line_error(command: Command, sweep: Path) -> None:
    answer = command("-m", *FEW, "seed=0,1", "+callbacks.remover._target_=test_sweep.Remover")
    assert answer.code == 1
    last = answer.err.splitlines()[-1] + "\n"
    assert_explained(last, [], [str(sweep)], "removed|deleted", "again|rerun")


def test_a_sweep_that_runs_in_another_process_is_refused(command: Command, sweep: Path) -> None:
    """Immediately, and without leaving files; otherwise each sweep would resume the other's running jobs."""
    with SweepFolder(sweep).lock():
        answer = command("-m", *FEW, "seed=0,1")
    assert answer.code == 2
    process = rf"process {os.getpid()} on \S+"
    assert_explained(answer.err, [], [f"error: {sweep}"], process, "wait.*another name")
    assert not sweep.exists()


@pytest.mark.usefixtures("instant_jobs")
def test_overwrite_replaces_a_sweep(command: Command, sweep: Path) -> None:
    assert command("-m", *FEW, "seed=0").code == 0
    assert command("-m", *FEW, "trainer.max_epochs=2", "seed=1", "overwrite=true").code == 0
    assert [row["seed"] for row in read_summary(sweep)] == ["1"]


@pytest.mark.usefixtures("instant_jobs")
def test_sweeping_an_additional_key_reuses_matching_runs(command: Command, sweep: Path) -> None:
    """No run is trained or counted twice, and the command of each run is still right."""
    assert command("-m", *FEW, "optimizer.lr=0.06", "seed=0,1").code == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
    assert len(before) == 2
    answer = command("-m", *FEW, "optimizer.lr=0.06,0.001", "seed=0,1")
    assert answer.code == 0
    assert answer.out.count("already finished") == 2
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert [(row["optimizer.lr"], row["seed"], row["n"]) for row in read_summary(sweep)] == [
        ("0.001", "1", "2"), ("0.001", "0", "2"), ("0.06", "1", "2"), ("0.06", "0", "2"),
    ]  # fmt: skip
    assert "optimizer.lr=0.001 seed=1" in answer.out


def test_the_previous_sweep_is_kept_until_the_new_one_is_finished(
    command: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", finish_at_once)
    assert command("-m", *FEW, "seed=0").code == 0
    monkeypatch.setattr(train, "train", fail_at_once)
    for _ in range(2):  # a second failure keeps it, too
        assert command("-m", *FEW, "overwrite=true", "sweep.fail_fast=true", "seed=0").code == 1
    assert len(list((sweep / ".replaced").glob("*/result.json"))) == 1
    assert not list(sweep.glob("*/result.json"))
    monkeypatch.setattr(train, "train", finish_at_once)
    assert command("-m", *FEW, "seed=0", "overwrite=true").code == 0
    assert not (sweep / ".replaced").exists()


@pytest.mark.usefixtures("instant_jobs")
def test_a_finished_job_ignores_the_error_of_an_earlier_attempt(command: Command, sweep: Path) -> None:
    """It stays in the folder of a job that was resumed alone."""
    assert command("-m", *FEW, "seed=0").code == 0
    (result,) = sweep.glob("*/result.json")
    (result.parent / "error.txt").write_text("it is broken\n")
    assert command("-m", *FEW, "seed=0").code == 0
    assert [row["status"] for row in read_summary(sweep)] == ["finished"]


def test_sweep_json_records_the_best_finished_job_and_the_first_of_ties(tmp_path: Path) -> None:
    """Unfinished jobs and jobs without a validation are ignored; another objective changes the best job."""
    folder = SweepFolder(tmp_path)
    for job, accuracy, loss in (("a", None, None), ("b", 0.8, 0.5), ("c", 0.8, 0.4), ("d", 0.7, 0.3)):
        (tmp_path / job).mkdir()
        result = {"name": job, "val/accuracy": accuracy, "val/loss": loss, "test/accuracy": 1, "epochs": 1}
        (tmp_path / job / "result.json").write_text(json.dumps(result | {"parameters": 1}))
    jobs: dict[str, dict[str, list[str]]] = {job: {} for job in ("a", "unfinished", "b", "c", "d")}
    folder.write(Record("val/accuracy", {}, [], jobs))
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] == "b"
    folder.write(Record("val/loss", {}, [], jobs))
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] == "d"
    folder.write(Record("val/accuracy", {}, [], {"a": {}, "unfinished": {}}))
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] is None


@pytest.mark.usefixtures("instant_jobs")
def test_sweep_objective_changes_the_ranking(command: Command, sweep: Path) -> None:
    assert command("-m", *FEW, "seed=0,1", "sweep.objective=val/loss").code == 0
    assert [row["seed"] for row in read_summary(sweep)] == ["0", "1"]  # by accuracy, 1 would be first


OBJECTIVES = "'val/accuracy', 'val/loss'"
# Arguments, names that the message contains, and regular expressions of its problem and its remedy.
MISTAKES = [
    (["seed=0,1", "sweep.objective=val/f1"], ["sweep.objective=val/f1"], WRONG_VALUE, OBJECTIVES),
    # The test split must not select settings.
    (["seed=0,1", "sweep.objective=test/accuracy"], ["sweep.objective=test/accuracy"], WRONG_VALUE, OBJECTIVES),
    (["seed=range(0)"], ["seed=range(0)"], "no values", "seed=1,2,3"),
    (["optimizer.lr=interval(0.1,1)"], ["optimizer.lr=interval(0.1,1)"], "grid", "hydra/sweeper=optuna"),
    (["seed=choice()"], ["seed=choice()"], "empty choice", "see --help"),
    (["seed=0,1", "sweep.fail_fast=maybe"], ["sweep.fail_fast=maybe"], WRONG_VALUE, BOOLEAN),
    (
        ["model=cnn,mlp", "model.width=16,32"],
        ["model.width", "in the job model=mlp model.width=16"],
        "unknown setting without its model",
        r"in a sweep over model, use \+\+model\.width=VALUE",
    ),
    # As without -m, whether the key is swept or not.
    (["seed=0,1", "data.batch_sise=32"], ["data.batch_sise"], UNKNOWN, r"did you mean data\.batch_size\?"),
    (["seed=0,1", "data.batch_sise=32,64"], ["data.batch_sise"], UNKNOWN, r"did you mean data\.batch_size\?"),
    (["optimizer.lrr=1,2"], ["optimizer.lrr"], UNKNOWN, r"did you mean optimizer\.lr\?"),
    (["sead=0,1"], ["sead"], UNKNOWN, r"did you mean seed\?"),
    (["optimizer=adamw", "optimizer.momentum=0,0.9"], ["optimizer.momentum"], UNKNOWN, "needs optimizer=muon or "),
    (["seed=0,1", "~logger"], ["~logger"], "cannot be deleted", "use logger=none"),
    (["seed=0,1", "~optimizer"], ["~optimizer"], "cannot be deleted", "choose one of adamw, muon, sgd"),
    (["seed=0,1", "trainer.num_nodes=2"], ["trainer.num_nodes"], "one machine|one node", r"at 1\b|=1\b"),
]


@pytest.mark.parametrize(("arguments", "names", "problem", "remedy"), MISTAKES)
def test_an_invalid_sweep_gives_a_one_line_error_and_starts_no_job(
    command: Command, sweep: Path, arguments: list[str], names: list[str], problem: str, remedy: str
) -> None:
    answer = command("-m", *FEW, *arguments)
    assert answer.code == 2
    assert_explained(answer.err, arguments, names, problem, remedy)
    assert not list(sweep.glob("*/config.yaml"))


def test_a_killed_sweep_repeats_only_unfinished_work(command: Command, tmp_path: Path, sweep: Path) -> None:
    """The sweep is killed with kill -9 in the third epoch of the second job; no epoch is trained twice."""
    few = ["data=sample", "model=mlp", "trainer=cpu", "trainer.max_epochs=6", *NO_PICTURES, "logger=none"]
    arguments = ["-m", *few, "seed=0,1", "name=s"]
    process = Process(*arguments, f"outputs={tmp_path / 'outputs'}")
    wait_until(lambda: epochs_trained(sweep / "seed=1") >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = command(*arguments)
    assert again.code == 0
    assert "seed=0: already finished" in again.out
    assert [row["status"] for row in read_summary(sweep)] == ["finished"] * 2
    assert "resuming from" in (sweep / "seed=1" / "train.log").read_text()
    # Only an epoch whose checkpoint was not written yet is trained again.
    assert epochs_trained(sweep / "seed=0") == 6
    assert epochs_trained(sweep / "seed=1") in (6, 7)
