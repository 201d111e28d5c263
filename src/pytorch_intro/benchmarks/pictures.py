"""What pictures and logs cost: the training from the shell with all of them, and with none."""

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks.workbench import Figures, Workbench, compared, run_process, shown
from pytorch_intro.hparams import HParams
from pytorch_intro.paths import PROJECT
from pytorch_intro.report import Report
from pytorch_intro.tensorboard_pages import TensorBoardPages

CLOCKED = (Report, TensorBoardPages, HParams)
NONE = ["callbacks.report=null", "callbacks.tensorboard=null", "callbacks.hparams=null", "logger=none"]


class PictureBenchmark:
    """Trains and tests with and without pictures and logs, each a new process, in turn; and clocks what draws them.

    The clock tells more where the speed drifts.

    Args:
        rounds: Of both ways.
        arguments: Of the training.
    """

    def __init__(self, rounds: PositiveInt, arguments: Sequence[str] = ()) -> None:
        self.rounds = rounds
        self.arguments = arguments

    def __call__(self, workbench: Workbench) -> Figures:
        """Seconds of each way, and of each callback and the loggers in a run."""
        train = [sys.executable, str(PROJECT / "src" / "train.py"), f"trainer.accelerator={workbench.device}"]
        clock = f"+callbacks.clock._target_={Clock.__module__}.{Clock.__name__}"
        seconds: dict[str, list[float]] = {"without": [], "pictures and logs": []}
        clocked: list[dict[str, float]] = []
        for turn in tqdm(range(self.rounds), "rounds", leave=False):
            with tempfile.TemporaryDirectory() as folder:
                plain = [*train, *self.arguments, f"outputs={folder}"]
                seconds["without"].append(run_process([*plain, f"name=without-{turn}", *NONE]).seconds)
                file = Path(folder, "clock.json")
                full = [*plain, f"name=with-{turn}", clock, f"+callbacks.clock.file={file}"]
                seconds["pictures and logs"].append(run_process(full).seconds)
                clocked.append(json.loads(file.read_text()))
        print("from the shell")
        figures = compared("seconds", "s", **seconds)
        share = sum(sum(run.values()) for run in clocked) / sum(seconds["pictures and logs"])
        for name in clocked[0]:
            print(f"  {name:<20}{shown(sum(run[name] for run in clocked) / len(clocked)):>8} s a run")
        print(f"  together, by the clock: {share:.2%} of the time (mean of n={self.rounds})")
        return {**figures, "clocked": clocked, "share": share}


class Clock(Callback):
    """Notes how long a run's pictures and logs take, and writes it into a file.

    Args:
        file: JSON, seconds by name.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seconds: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        callbacks = [c for c in trainer.callbacks if isinstance(c, CLOCKED)]  # type: ignore[attr-defined]
        for part in [*callbacks, *trainer.loggers]:
            for hook in [name for name in dir(part) if name.startswith(("on_", "log_"))]:
                if callable(getattr(part, hook)):
                    setattr(part, hook, self.timed(type(part).__name__, getattr(part, hook)))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self.seconds.setdefault(name, 0.0)

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **named)
            self.seconds[name] += time.perf_counter() - started
            return result

        return run

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.file.write_text(json.dumps(self.seconds))
