"""How long it takes until something happens: from the shell to the first training step, and to an answer."""

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

from pytorch_intro.benchmarks.workbench import Figures, Workbench, compared, run_process
from pytorch_intro.paths import PROJECT


class StartupBenchmark:
    """Commands from the shell, each a new process, beside one that imports torch and lightning and does nothing.

    That one and the training leave without Python's tidying up, which is no part of starting.

    Args:
        rounds: Of all commands, in turn.
        warm_up: Rounds before, which are not counted.
        arguments: Of the training.
    """

    def __init__(self, rounds: PositiveInt, warm_up: NonNegativeInt = 1, arguments: Sequence[str] = ()) -> None:
        self.rounds = rounds
        self.warm_up = warm_up
        self.arguments = arguments

    def __call__(self, workbench: Workbench) -> Figures:
        """Seconds of each command."""
        with tempfile.TemporaryDirectory() as folder:
            train = [sys.executable, str(PROJECT / "src" / "train.py")]
            device = f"trainer.accelerator={workbench.device}"
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
        return compared("seconds", "s", **seconds)


class LeaveAfterFirstStep(Callback):
    """Ends the process when the first training step is done."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> NoReturn:
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        os._exit(0)
