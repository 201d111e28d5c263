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
import time
from collections.abc import Callable
from pathlib import Path

from forked import TRAIN
from test_resume import LONG


def start_in_terminal(outputs: Path, *launcher: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a run that is alone in a new terminal; return its process and the terminal's other end."""

    def prepare() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, and inherited, if the tests themselves run under nohup

    terminal, tty = pty.openpty()
    process = subprocess.Popen(
        [*launcher, sys.executable, TRAIN, *LONG, "name=first", f"outputs={outputs}"],
        stdin=tty, stdout=tty, stderr=tty, start_new_session=True, cwd=outputs.parent,
        preexec_fn=prepare,
    )  # fmt: skip
    os.close(tty)
    return process, terminal


def read_until(happened: Callable[[], bool], terminal: int, process: subprocess.Popen[bytes]) -> None:
    while not happened() and process.poll() is None:
        if select.select([terminal], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # after nohup, no process has the terminal open
                os.read(terminal, 4096)


def test_a_closed_terminal_stops_a_run_with_a_checkpoint(tmp_path: Path) -> None:
    """A second SIGHUP, which a shell may send, does not stop it immediately."""
    run = tmp_path / "outputs" / "first"
    process, terminal = start_in_terminal(tmp_path / "outputs")
    read_until((run / "checkpoints" / "last.ckpt").exists, terminal, process)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=100) == 143
    assert "interrupted at step" in (run / "train.log").read_text()
    assert not (run / "result.json").exists()


def test_nohup_protects_a_run_from_a_closed_terminal(tmp_path: Path) -> None:
    run = tmp_path / "outputs" / "first"
    (tmp_path / "outputs").mkdir()
    process, terminal = start_in_terminal(tmp_path / "outputs", "nohup")
    read_until((run / "checkpoints" / "last.ckpt").exists, terminal, process)
    os.close(terminal)
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=100) == 0
    assert (run / "result.json").exists()
