"""Runs ended at random moments, over and over, carry on to the same bits.

A few of them are in every `make test`; `python -m pytest -m torture` does all, which takes about ten minutes.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command, Process, wait_until
from test_resume import LONG, WholeRuns, assert_same_run, started, whole_runs  # noqa: F401

from pytorch_intro.config.paths import PROJECT

LONGEST = 3.0  # seconds after the first checkpoint; the run is over sooner
TWO_PROCESSES = ["trainer.devices=2", "trainer.strategy=ddp"]


def a_checkpoint_is_written(run: Path, process: Process, draw: random.Random) -> None:
    """The moment at which a temporary file is there: it lasts for a millisecond, and so is not met each time."""
    while not any((run / "checkpoints").glob(".*.tmp")) and process.returncode is None:
        os.sched_yield()


def the_test_begins(run: Path, process: Process, draw: random.Random) -> None:
    """The moment at which the last epoch has been told."""
    wait_until(lambda: "epoch 10/10" in (run / "train.log").read_text(), process)


def at_random(run: Path, process: Process, draw: random.Random) -> None:
    end = time.monotonic() + draw.uniform(0, LONGEST)
    wait_until(lambda: time.monotonic() > end, process)


MOMENTS = [a_checkpoint_is_written, the_test_begins, at_random]


def end_at(moment: Callable[..., None], number: int, run: Path, draw: random.Random, *arguments: str) -> int | None:
    """Start a run, or carry it on, and send a signal at some moment; its exit code."""
    process = started(run, *arguments)
    moment(run, process, draw)
    with contextlib.suppress(ProcessLookupError):  # it is done already
        os.kill(process.pid, number)
    _, err = process.communicate()
    assert "Traceback" not in err, err
    return process.returncode


@pytest.mark.parametrize("moment", [a_checkpoint_is_written, the_test_begins])
def test_a_run_that_is_killed_at_a_bad_moment_carries_on(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,  # noqa: F811
    moment: Callable[..., None],
) -> None:
    run = tmp_path / "outputs" / "killed"
    assert end_at(moment, signal.SIGKILL, run, random.Random(0), *LONG) in (-signal.SIGKILL, 0)
    assert command(*LONG, "name=killed").code == 0
    assert_same_run(whole_runs(*LONG), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(20))
def test_twenty_kills(tmp_path: Path, whole_runs: WholeRuns, turn: int) -> None:  # noqa: F811
    """kill -9, three times in each run; with and without worker processes."""
    draw = random.Random(turn)
    arguments = [*LONG, f"data.num_workers={2 * (turn % 4 == 3)}"]
    run = tmp_path / "outputs" / "killed"
    for kill in range(3):
        end_at(MOMENTS[(turn + kill) % 3], signal.SIGKILL, run, draw, *arguments)
    end_at(lambda run, process, draw: wait_until(lambda: False, process), 0, run, draw, *arguments)
    assert_same_run(whole_runs(*arguments), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(10))
def test_ten_signals_of_a_scheduler(tmp_path: Path, whole_runs: WholeRuns, turn: int) -> None:  # noqa: F811
    """SIGTERM, at a random moment: it ends with 143, or 0 where it was done already."""
    draw = random.Random(100 + turn)
    run = tmp_path / "outputs" / "stopped"
    code = end_at(at_random, signal.SIGTERM, run, draw, *LONG)
    is_done = (run / "result.json").exists()
    assert code in ((143, 0, -signal.SIGTERM) if is_done else (143,))  # Python hands signals back before it ends
    end_at(lambda run, process, draw: wait_until(lambda: False, process), 0, run, draw, *LONG)
    assert_same_run(whole_runs(*LONG), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(3))
def test_two_processes_killed(tmp_path: Path, turn: int) -> None:
    """Both carry on, by the shares of the images that were theirs."""
    draw = random.Random(200 + turn)
    whole, run = (tmp_path / "outputs" / name for name in ("whole", "killed"))
    wait = [lambda run, process, draw: wait_until(lambda: False, process), 0]
    end_at(*wait, whole, draw, *LONG, *TWO_PROCESSES)  # type: ignore[arg-type]
    end_at(at_random, signal.SIGTERM, run, draw, *LONG, *TWO_PROCESSES)
    end_at(*wait, run, draw, *LONG, *TWO_PROCESSES)  # type: ignore[arg-type]
    assert_same_run(whole, run)


@pytest.mark.torture
def test_twenty_runs_of_one_moment_have_twenty_folders(tmp_path: Path) -> None:
    """Real processes, all started before the first of them has a folder."""
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "model.width=4"]
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *few, f"outputs={tmp_path}"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(20)]
    assert [process.wait(timeout=500) for process in processes] == [0] * 20
    assert len(list(tmp_path.rglob("result.json"))) == 20
