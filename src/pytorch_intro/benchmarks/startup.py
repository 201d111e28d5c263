"""Startup time: from starting the command to the first training step, a prediction, and the output of --help."""

import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, run_process, time_alternately
from pytorch_intro.training.hardware import synchronize

TORCH, TORCH_LIGHTNING = "import torch", "import torch, lightning"
PREDICT = "predict.py of one picture"


def measure_startup(
    context: BenchmarkContext, rounds: PositiveInt, warm_up: NonNegativeInt = 1, arguments: Sequence[str] = ()
) -> Figures:
    """Run commands in new processes, alternately with those that only import torch and lightning; return their seconds.

    The imports and the training exit without Python's cleanup, which is not part of starting. The prediction is of one
    picture, by a run that is trained before, from the shell to the prompt.

    Args:
        rounds: Number of rounds of all commands.
        warm_up: Number of rounds before, which are not counted.
        arguments: Arguments of `python src/train.py`.
    """
    exit_early = f"+callbacks.exit._target_={ExitAfterFirstStep.__module__}.{ExitAfterFirstStep.__name__}"
    with tempfile.TemporaryDirectory() as folder:
        picture, run = Path(folder, "picture.png"), Path(folder, "run")
        Image.new("L", (28, 28), 128).save(picture)
        run_process(context.command("train", "data=sample", "trainer.max_epochs=1", "name=run", f"outputs={folder}"))
        commands = {
            TORCH_LIGHTNING: [sys.executable, "-c", "import os, torch, lightning; os._exit(0)"],
            "to the first training step": context.command("train", *arguments, exit_early, f"outputs={folder}"),
            "--cfg job": context.command("train", "--cfg", "job"),
            "--help": context.command("train", "--help"),
            TORCH: [sys.executable, "-c", "import os, torch; os._exit(0)"],
            PREDICT: context.command("predict", f"run={run}", f"images={picture}"),
        }
        variants = {name: partial(run_process, command) for name, command in commands.items()}
        time_alternately(variants, warm_up)
        seconds = time_alternately(variants, rounds)
    print("from starting the command")
    prediction = {name: seconds.pop(name) for name in (TORCH, PREDICT)}
    figures = print_comparison("seconds", "s", **seconds)
    print("a prediction")
    return {**figures, "prediction": print_comparison("seconds", "s", **prediction)}


class ExitAfterFirstStep(Callback):
    """Exits the process after the first training step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> NoReturn:
        synchronize()
        os._exit(0)
