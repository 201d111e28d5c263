"""A closed terminal stops a run as SIGTERM does, unless nohup protects it."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

from conftest import FORKS, reset_start_method
from forked import TRAIN, run_script
from test_resume import LONG, SMALL


def train_in_terminal(tty: str, arguments: list[str]) -> None:
    """Train in this process, as the only one of a terminal."""
    reset_start_method()
    os.setsid()
    for number in range(3):
        os.dup2(os.open(tty, os.O_RDWR), number)
    run_script([TRAIN, *arguments])


def read_until(happened: Callable[[], bool], terminal: int, is_running: Callable[[], bool]) -> None:
    while not happened() and is_running():
        if select.select([terminal], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # after nohup, no process has the terminal open
                os.read(terminal, 4096)


def hang_up(terminal: int, pid: int) -> None:
    """Close the terminal, and send the second SIGHUP that a shell may send."""
    os.close(terminal)
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.kill(pid, signal.SIGHUP)


def test_a_closed_terminal_stops_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    """A second SIGHUP does not stop it immediately."""
    run = tmp_path / "outputs" / "first"
    terminal, tty = pty.openpty()
    arguments = [*LONG, "name=first", f"outputs={run.parent}"]
    process = FORKS.Process(target=train_in_terminal, args=(os.ttyname(tty), arguments))
    process.start()
    read_until((run / "checkpoints" / "last.ckpt").exists, terminal, process.is_alive)
    os.close(tty)
    assert process.pid
    hang_up(terminal, process.pid)
    process.join(100)
    assert process.exitcode == 143
    assert "interrupted at step" in (run / "train.log").read_text()
    assert not (run / "result.json").exists()


def test_nohup_protects_a_run_from_a_closed_terminal(tmp_path: Path) -> None:
    """A real start: nohup ignores the signal before the program does anything."""
    run = tmp_path / "outputs" / "first"
    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        ["nohup", sys.executable, TRAIN, *SMALL, "name=first", f"outputs={run.parent}"],
        stdin=tty, stdout=tty, stderr=tty, start_new_session=True, cwd=tmp_path,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(tty)
    read_until((run / "checkpoints" / "last.ckpt").exists, terminal, lambda: process.poll() is None)
    hang_up(terminal, process.pid)
    assert process.wait(timeout=100) == 0
    assert (run / "result.json").exists()
