"""Processes that a run starts, such as its ranks, by fork: a new interpreter takes seconds to import torch."""

import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from types import SimpleNamespace
from typing import Any

from pytorch_intro.config.paths import PROJECT

TRAIN = str(PROJECT / "src" / "train.py")
FORK = multiprocessing.get_context("fork")


def run_script(command: Sequence[str]) -> None:
    """Run a script, such as src/train.py, or a module in this process, with its arguments."""
    sys.argv = list(command)
    if os.sep in command[0]:
        runpy.run_path(command[0], run_name="__main__")
    else:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)


class ForkedPopen:
    """Stands in for a subprocess.Popen of `python src/train.py …`: a process that waits for its command."""

    def __init__(self) -> None:
        self.receiver, self.sender = multiprocessing.Pipe(duplex=False)
        reader, self.writer = os.pipe()
        self.stderr = os.fdopen(reader, errors="replace")
        self.process = FORK.Process(target=self.serve)
        self.process.start()
        self.pid = self.process.pid or 0
        os.close(self.writer)

    def serve(self) -> None:
        self.sender.close()
        self.stderr.close()
        try:
            command, environment, stderr, start_new_session = self.receiver.recv()
        except EOFError:  # not needed
            return
        if start_new_session:
            os.setsid()
        if stderr == subprocess.PIPE:
            os.dup2(self.writer, 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 (a pipe, unlike the file before)
        os.close(self.writer)
        os.environ.clear()
        os.environ.update(environment)
        with forked_processes(1):
            run_script([*dropwhile(lambda word: word.startswith("-"), command[1:])])  # after python -u

    def __enter__(self) -> "ForkedPopen":
        return self

    def __exit__(self, *_: object) -> None:
        self.communicate()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        self.process.join(timeout)
        return self.returncode

    def communicate(self) -> None:
        self.stderr.read()
        self.wait()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def forked_processes(count: int) -> Iterator[None]:
    """Fork processes that wait, and use them for those that a sweep, Lightning and torchrun start."""
    processes = [ForkedPopen() for _ in range(count)]
    waiting = [*processes]

    def start(
        args: Sequence[str], env: dict[str, str], stderr: Any = None, start_new_session: bool = False, **_: Any
    ) -> ForkedPopen:
        process = waiting.pop()
        process.sender.send((list(args), dict(env), stderr, start_new_session))
        return process

    stand_in = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
    for name, attribute, value in (
        ("pytorch_intro.sweeps.job", "subprocess", stand_in),
        ("lightning.pytorch.strategies.launchers.subprocess_script", "subprocess", stand_in),
        ("torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler", "Popen", start),
    ):
        with contextlib.suppress(ModuleNotFoundError):  # the sweeps may have been deleted
            module = importlib.import_module(name)
            assert hasattr(module, attribute)
            setattr(module, attribute, value)
    try:
        yield
    finally:
        for process in processes:
            process.sender.close()
