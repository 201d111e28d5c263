"""Startup time: from starting the command to the first training step, and to the output of --help and --cfg."""

import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import NonNegativeInt, PositiveInt

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, run_process, time_alternately
from pytorch_intro.training.hardware import synchronize


def measure_startup(
    context: BenchmarkContext, rounds: PositiveInt, warm_up: NonNegativeInt = 1, arguments: Sequence[str] = ()
) -> Figures:
    """Run commands in new processes, alternately with one that only imports torch and lightning; return their seconds.

    That one and the training exit without Python's cleanup, which is not part of starting.

    Args:
        rounds: Number of rounds of all commands.
        warm_up: Number of rounds before, which are not counted.
        arguments: Arguments of `python src/train.py`.
    """
    exit_early = f"+callbacks.exit._target_={ExitAfterFirstStep.__module__}.{ExitAfterFirstStep.__name__}"
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "import torch, lightning": [sys.executable, "-c", "import os, torch, lightning; os._exit(0)"],
            "to the first training step": context.command("train", *arguments, exit_early, f"outputs={folder}"),
            "--cfg job": context.command("train", "--cfg", "job"),
            "--help": context.command("train", "--help"),
        }
        variants = {name: partial(run_process, command) for name, command in commands.items()}
        time_alternately(variants, warm_up)
        seconds = time_alternately(variants, rounds)
    print("from starting the command")
    return print_comparison("seconds", "s", **seconds)


class ExitAfterFirstStep(Callback):
    """Exits the process after the first training step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> NoReturn:
        synchronize()
        os._exit(0)
