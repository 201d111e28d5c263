"""Startup time: from the shell to the first training step, and to the output of --help and --cfg."""

import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import NonNegativeInt, PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, run_process
from pytorch_intro.config.paths import PROJECT


class StartupBenchmark:
    """Runs commands in new processes, and one that only imports torch and lightning.

    That one and the training exit without Python's cleanup, which is not part of starting.

    Args:
        rounds: Number of rounds of all commands.
        warm_up: Number of rounds before, which are not counted.
        arguments: Arguments of `python src/train.py`.
    """

    def __init__(self, rounds: PositiveInt, warm_up: NonNegativeInt = 1, arguments: Sequence[str] = ()) -> None:
        self.rounds = rounds
        self.warm_up = warm_up
        self.arguments = arguments

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return the seconds of each command."""
        with tempfile.TemporaryDirectory() as folder:
            train = [sys.executable, str(PROJECT / "src" / "train.py")]
            device = f"trainer.accelerator={context.device}"
            leave = f"+callbacks.leave._target_={LeaveAfterFirstStep.__module__}.{LeaveAfterFirstStep.__name__}"
            commands = {
                "import torch, lightning": [sys.executable, "-c", "import os, torch, lightning; os._exit(0)"],
                "to the first training step": [*train, device, *self.arguments, leave, f"outputs={folder}"],
                "--cfg job": [*train, "--cfg", "job"],
                "--help": [*train, "--help"],
            }
            seconds: dict[str, list[float]] = {name: [] for name in commands}
            for turn in tqdm(range(-self.warm_up, self.rounds), "rounds", leave=False):
                for name, command in commands.items():
                    taken = run_process(command).seconds
                    seconds[name] += [taken] if turn >= 0 else []
        print("from the shell")
        return print_comparison("seconds", "s", **seconds)


class LeaveAfterFirstStep(Callback):
    """Exits the process after the first training step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> NoReturn:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        os._exit(0)
