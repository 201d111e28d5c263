"""Runs that are killed at random moments, several times, resume bit-exactly.

`make test` includes a few of these tests; `python -m pytest -m torture` runs all, in about ten minutes.
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
from conftest import Command, Process, WholeRuns, wait_until
from test_resume import LONG, assert_same_run, started

from pytorch_intro.config.paths import PROJECT

LONGEST = 3.0  # seconds after the first checkpoint; longer than the run
TWO_PROCESSES = ["trainer.devices=2", "trainer.strategy=ddp"]


def while_saving_a_checkpoint(run: Path, process: Process, generator: random.Random) -> None:
    """Wait for a temporary file; it exists for about a millisecond, so that some runs end before it is found."""
    while not any((run / "checkpoints").glob(".*.tmp")) and process.returncode is None:
        os.sched_yield()


def when_testing_starts(run: Path, process: Process, generator: random.Random) -> None:
    """Wait for the log line of the last epoch."""
    wait_until(lambda: "epoch 10/10" in (run / "train.log").read_text(), process)


def at_a_random_time(run: Path, process: Process, generator: random.Random) -> None:
    end = time.monotonic() + generator.uniform(0, LONGEST)
    wait_until(lambda: time.monotonic() > end, process)


MOMENTS = [while_saving_a_checkpoint, when_testing_starts, at_a_random_time]


def end_at(
    moment: Callable[..., None], number: int, run: Path, generator: random.Random, *arguments: str
) -> int | None:
    """Start or resume a run, send a signal at a moment, and return the exit code."""
    process = started(run, *arguments)
    moment(run, process, generator)
    with contextlib.suppress(ProcessLookupError):  # it has exited already
        os.kill(process.pid, number)
    _, err = process.communicate()
    assert "Traceback" not in err, err
    return process.returncode


@pytest.mark.parametrize("moment", [while_saving_a_checkpoint, when_testing_starts])
def test_a_run_killed_at_a_critical_moment_resumes_bit_exactly(
    command: Command,
    tmp_path: Path,
    whole_runs: WholeRuns,
    moment: Callable[..., None],
) -> None:
    run = tmp_path / "outputs" / "killed"
    assert end_at(moment, signal.SIGKILL, run, random.Random(0), *LONG) in (-signal.SIGKILL, 0)
    assert command(*LONG, "name=killed").code == 0
    assert_same_run(whole_runs(*LONG), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(20))
def test_sigkill_three_times_resumes_bit_exactly(tmp_path: Path, whole_runs: WholeRuns, turn: int) -> None:
    """With and without DataLoader workers."""
    generator = random.Random(turn)
    arguments = [*LONG, f"data.num_workers={2 * (turn % 4 == 3)}"]
    run = tmp_path / "outputs" / "killed"
    for kill in range(3):
        end_at(MOMENTS[(turn + kill) % 3], signal.SIGKILL, run, generator, *arguments)
    end_at(lambda run, process, generator: wait_until(lambda: False, process), 0, run, generator, *arguments)
    assert_same_run(whole_runs(*arguments), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(10))
def test_sigterm_at_a_random_time_resumes_bit_exactly(tmp_path: Path, whole_runs: WholeRuns, turn: int) -> None:
    """The exit code is 143, or 0 if the run was finished already."""
    generator = random.Random(100 + turn)
    run = tmp_path / "outputs" / "stopped"
    code = end_at(at_a_random_time, signal.SIGTERM, run, generator, *LONG)
    is_done = (run / "result.json").exists()
    assert code in (
        (143, 0, -signal.SIGTERM) if is_done else (143,)
    )  # Python restores the default handler before it exits
    end_at(lambda run, process, generator: wait_until(lambda: False, process), 0, run, generator, *LONG)
    assert_same_run(whole_runs(*LONG), run)


@pytest.mark.torture
@pytest.mark.parametrize("turn", range(3))
def test_two_ranks_resume_bit_exactly(tmp_path: Path, turn: int) -> None:
    """After SIGTERM; each rank continues with its own share of the images."""
    generator = random.Random(200 + turn)
    whole, run = (tmp_path / "outputs" / name for name in ("whole", "killed"))
    wait = [lambda run, process, generator: wait_until(lambda: False, process), 0]
    end_at(*wait, whole, generator, *LONG, *TWO_PROCESSES)  # type: ignore[arg-type]
    end_at(at_a_random_time, signal.SIGTERM, run, generator, *LONG, *TWO_PROCESSES)
    end_at(*wait, run, generator, *LONG, *TWO_PROCESSES)  # type: ignore[arg-type]
    assert_same_run(whole, run)


@pytest.mark.torture
def test_twenty_runs_started_at_once_have_twenty_folders(tmp_path: Path) -> None:
    """Real processes, all started before the first has created its folder."""
    few = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "model.width=4"]
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *few, f"outputs={tmp_path}"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(20)]
    assert [process.wait(timeout=500) for process in processes] == [0] * 20
    assert len(list(tmp_path.rglob("result.json"))) == 20
