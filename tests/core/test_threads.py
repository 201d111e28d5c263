"""The number of CPU threads: chosen by the cores that are free, recorded, and used again by a resumed run."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from pytorch_intro.common import cpu
from pytorch_intro.common.cpu import JOB_MONITOR, CpuMonitor, read_clocks, usable_cores
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.training import hardware
from pytorch_intro.training.hardware import choose_threads, count_devices

RUN = ["data=sample", "trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "callbacks=none"]


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(hardware, "MAX_THREADS", 8)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 8)
    monkeypatch.setattr(hardware, "affinity", lambda: set(range(8)))
    return monkeypatch


@pytest.mark.parametrize(("used", "threads"), [(0.0, 8), (0.4, 8), (1.2, 7), (7.6, 1), (8.0, 1)])
def test_auto_leaves_the_cores_to_other_programs_that_they_use(
    eight_cores: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, used: float, threads: int
) -> None:
    eight_cores.setattr(JOB_MONITOR, "cores_used_by_others", lambda: used)
    with caplog.at_level(logging.INFO):
        assert choose_threads("auto", 1) == threads
    assert f"threads: {threads} (8 cores" in caplog.text
    assert ("other programs use" in caplog.text) == (threads < 8)


def test_one_core_is_named_in_the_singular(eight_cores: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    eight_cores.setattr(hardware, "usable_cores", lambda: 1)
    eight_cores.setattr(JOB_MONITOR, "cores_used_by_others", lambda: 0.0)
    with caplog.at_level(logging.INFO):
        choose_threads("auto", 1)
    assert "threads: 1 (1 core)" in caplog.text


@pytest.mark.parametrize(("used", "threads"), [(0.0, 8), (30.0, 8), (56.4, 8), (60.0, 4), (64.0, 1)])
def test_in_a_container_other_programs_only_count_if_no_core_is_left(
    eight_cores: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, used: float, threads: int
) -> None:
    """It may use eight of 64 cores at a time, whichever they are."""
    eight_cores.setattr(hardware, "affinity", lambda: set(range(64)))
    eight_cores.setattr(JOB_MONITOR, "cores_used_by_others", lambda: used)
    with caplog.at_level(logging.INFO):
        assert choose_threads("auto", 1) == threads
    assert ("(64 cores, other programs use" in caplog.text) == (threads < 8)


@pytest.mark.parametrize(
    ("accelerator", "devices", "threads"),
    [
        ("cpu", 2, 4),
        ("cpu", [0, 1, 2], 2),
        ("cpu", 16, 1),
        ("cpu", "auto", 8),
        ("cuda", "auto", 2),
        ("cuda", -1, 2),
        ("cuda", [3], 8),
    ],
)
def test_processes_of_a_training_share_the_cores(
    eight_cores: pytest.MonkeyPatch, accelerator: str, devices: Any, threads: int
) -> None:
    eight_cores.setattr(JOB_MONITOR, "cores_used_by_others", lambda: 0.0)
    eight_cores.setattr(torch.cuda, "device_count", lambda: 4)
    assert choose_threads("auto", count_devices(accelerator, devices)) == threads


def test_a_container_may_use_as_many_cores_as_its_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "affinity", lambda: set(range(64)))
    monkeypatch.setattr(cpu, "CGROUP_QUOTA", tmp_path / "cpu.max")
    assert usable_cores() == 64
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores() == 64
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cores() == 2


def test_only_what_the_others_use_counts_as_used(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(10.0, 95.0), (12.0, 97.0)])
    monkeypatch.setattr(cpu, "read_clocks", lambda: next(readings))
    monitor = CpuMonitor()
    monitor.restart()
    assert monitor.cores_used_by_others() == 1.0


def test_the_time_of_this_process_and_of_its_children_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a core that other processes used for two seconds, of which another core's do not count."""
    own = os.times_result((1.0, 2.0, 3.0, 4.0, 0.0))
    ticks = 12 * os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        f"cpu 9 9 9 9 9 9 9 9 9 9\ncpu3 {ticks} 0 0 7 7 0 0 0 0 0\ncpu4 9 9 9 9 9 9 9 9 9 9\n"
    )
    monkeypatch.setattr(cpu, "PROC_STAT", tmp_path / "stat")
    monkeypatch.setattr(cpu, "affinity", lambda: {3})
    monkeypatch.setattr(os, "times", lambda: own)
    clocks = read_clocks()
    assert clocks
    assert clocks[1] == 2.0


def test_too_short_a_measurement_keeps_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of a sweep follow each other in a process."""
    readings = iter([(0.0, 0.0), (1.0, 1.5), (1.0, 1.5), (1.01, 1.5)])
    monkeypatch.setattr(cpu, "read_clocks", lambda: next(readings))
    monitor = CpuMonitor()
    for _ in range(2):
        monitor.restart()
        assert monitor.cores_used_by_others() == 1.5


def test_a_system_without_proc_stat_has_all_cores_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "PROC_STAT", tmp_path / "stat")
    assert read_clocks() is None
    monitor = CpuMonitor()
    monitor.restart()
    assert monitor.cores_used_by_others() == 0.0


@pytest.mark.skipif(not cpu.PROC_STAT.exists(), reason="needs /proc/stat")
def test_a_busy_process_is_measured() -> None:
    """A real process: at least the time that it has computed counts, except for the steps of the kernel's clock."""

    def computed(pid: int) -> float:
        columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # see proc_pid_stat(5)
        return (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")

    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            monitor = CpuMonitor()
            monitor.restart()
            before = computed(other.pid)
            while computed(other.pid) < before + 0.4:
                pass
            cores = monitor.cores_used_by_others()
        finally:
            other.kill()
    assert monitor.start
    assert cores * (time.monotonic() - monitor.start[0]) > 0.2


def test_the_number_is_recorded_and_used_again(command: Command, tmp_path: Path) -> None:
    """Bits depend on it. A resumed run does not measure again."""
    assert command(*RUN, "trainer.threads=1", "name=first").code == 0
    run = tmp_path / "outputs" / "first"
    assert load_config(run / "config.yaml").trainer.threads == 1
    (run / "result.json").unlink()
    torch.set_num_threads(2)
    answer = command(*RUN, "name=first")
    assert answer.code == 0, answer.err
    assert "threads: 1 (" in answer.out
    assert torch.get_num_threads() == 1


def test_auto_is_recorded_as_the_chosen_number(command: Command, tmp_path: Path) -> None:
    assert command(*RUN, "name=first").code == 0
    assert load_config(tmp_path / "outputs" / "first" / "config.yaml").trainer.threads == torch.get_num_threads()
    assert "finished before" in command(*RUN, "name=first").out


def test_another_number_is_another_run(command: Command) -> None:
    assert command(*RUN, "trainer.threads=1", "name=first").code == 0
    answer = command(*RUN, "trainer.threads=2", "name=first")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "trainer.threads: 1 → 2" in answer.err


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5", "null"])
def test_a_number_that_is_no_number_of_threads_is_refused(command: Command, threads: str) -> None:
    answer = command(*RUN, f"trainer.threads={threads}", "name=first")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert f"trainer.threads={threads}: invalid value" in answer.err


def test_usable_cores_of_this_machine() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
