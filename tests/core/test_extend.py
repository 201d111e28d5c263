"""resume=DIR with further settings trains a run longer, and records that in its folder."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Command, WholeRuns, epochs_trained, killed_run
from explained import assert_explained
from test_resume import SMALL, assert_same_run, curves, killed_at

ONE_EPOCH = [*(argument for argument in SMALL if "max_epochs" not in argument), "trainer.max_epochs=1"]


def test_an_extended_run_is_bit_identical_to_a_longer_one(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
) -> None:
    """With a constant learning rate; also if the extension is interrupted."""
    whole = whole_runs(*SMALL, "scheduler=constant")
    run = tmp_path / "outputs" / "first"
    assert command(*ONE_EPOCH, "scheduler=constant", "name=first").code == 0
    config = (run / "config.yaml").read_bytes()
    with killed_at(8):
        command(f"resume={run}", "trainer.max_epochs=2")
    assert not (run / "result.json").exists()
    assert command(f"resume={run}").code == 0
    assert_same_run(whole, run)
    assert (run / "config.yaml").read_bytes() == config
    assert "trainer.max_epochs: 2" in (run / "config_extended.yaml").read_text()
    first, extension = json.loads((run / "result.json").read_text())["command"].split(" && ")
    assert "trainer.max_epochs=1" in first
    assert extension == f"python src/train.py resume={run} trainer.max_epochs=2 outputs={run.parent}"
    assert "finished before" in command(f"resume={run}").out
    assert "finished before" in command(f"resume={run}", "trainer.max_epochs=2").out


def test_the_schedule_of_an_extended_run_spans_all_steps(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """Its first rate is that of the longer schedule, which the log says."""
    run = shutil.copytree(whole_runs(*ONE_EPOCH), tmp_path / "outputs" / "first")
    answer = command(f"resume={run}", "trainer.max_epochs=2")
    assert answer.code == 0, answer.err
    assert "schedule: 12 steps instead of 6, so that the learning rate continues at" in answer.out
    rates, whole = (dict(curves(folder)["lr"]) for folder in (run, whole_runs(*SMALL)))
    assert all(rates[step] == whole[step] for step in range(7, 13))


def test_a_longer_run_of_the_same_name_is_refused_with_the_command_that_extends_it(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    run = shutil.copytree(whole_runs(*ONE_EPOCH), tmp_path / "outputs" / "first")
    answer = command(*SMALL, "name=first")
    assert answer.code == 2
    assert "trainer.max_epochs: 1 → 2" in answer.err
    remedy = [word for word in answer.err.split() if word.startswith(("resume=", "trainer.max_epochs="))]
    assert len(remedy) == 2
    assert command(*remedy).code == 0
    assert epochs_trained(run) == 2
    assert "seed: 0 → 1" in (mixed := command(*SMALL, "name=first", "seed=1")).err
    assert "resume=" not in mixed.err


EARLY = [*ONE_EPOCH[:-1], "callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"]
EARLY += ["trainer.max_epochs=8", "name=first"]


@pytest.mark.parametrize("setting", ["+callbacks.early_stopping=null", "+callbacks.early_stopping.patience=9"])
def test_a_run_that_stopped_early_can_be_continued(command: Command, tmp_path: Path, setting: str) -> None:
    run = tmp_path / "outputs" / "first"
    assert command(*EARLY).code == 0
    assert epochs_trained(run) < 8
    answer = command(f"resume={run}", setting)
    assert answer.code == 0, answer.err
    assert epochs_trained(run) == 8


@pytest.mark.parametrize(
    ("setting", "names", "problem", "remedy"),
    [
        ("optimizer.lr=1", ["optimizer.lr=1"], "uses the config of that run", "remove"),
        ("trainer=ddp", ["trainer=ddp"], "uses the config of that run", "remove"),
        ("trainer.max_epochs=1", ["trainer.max_epochs=1"], "has 2 epochs", "larger"),
        ("trainer.max_epochs=many", ["trainer.max_epochs=many"], "invalid value", "integer"),
        ("+trainer.max_epoch=9", ["trainer.max_epoch"], "unknown setting", "did you mean trainer.max_epochs"),
    ],
)
def test_a_setting_that_cannot_extend_a_run_is_refused(
    command: Command, tmp_path: Path, whole_runs: WholeRuns, setting: str, names: list[str], problem: str, remedy: str
) -> None:
    """The run stays as it is."""
    run = shutil.copytree(whole_runs(*SMALL), tmp_path / "outputs" / "first")
    result = (run / "result.json").read_bytes()
    answer = command(f"resume={run}", setting)
    assert answer.code == 2
    assert_explained(answer.err, [setting], names, problem, remedy)
    assert (run / "result.json").read_bytes() == result
    assert not (run / "config_extended.yaml").exists()


def test_fewer_epochs_than_an_unfinished_run_has_begun_are_refused(
    command: Command, tmp_path: Path, whole_runs: WholeRuns
) -> None:
    """The run stays as it is, and resumes without the setting."""
    run = shutil.copytree(killed_run(whole_runs(*SMALL), 8), tmp_path / "outputs" / "first")
    answer = command(f"resume={run}", "trainer.max_epochs=1")
    assert answer.code == 2
    assert_explained(answer.err, [], ["trainer.max_epochs=1"], "has 2 epochs", "larger")
    assert not (run / "config_extended.yaml").exists()
    assert command(f"resume={run}").code == 0
    assert_same_run(whole_runs(*SMALL), run)


@pytest.mark.parametrize("text", ["", "text", "- command: x", "- {command: x, settings: 1}", "{"])
def test_damaged_extensions_are_a_one_line_error(
    command: Command, finished_run: Path, tmp_path: Path, text: str
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "damaged")
    (run / "config_extended.yaml").write_text(text)
    answer = command(f"resume={run}")
    assert answer.code == 2
    assert_explained(answer.err, [], ["config_extended.yaml"], "cannot be read", "use another folder")
