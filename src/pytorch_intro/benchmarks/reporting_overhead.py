"""The cost of plots and logs: training from the shell with all of them and with none."""

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

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, run_process, shown
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.reports.plots_callback import Report
from pytorch_intro.reports.tensorboard.callback import TensorBoardPages
from pytorch_intro.reports.tensorboard.hparams import HParams
from pytorch_intro.training.lightning_internals import callbacks

CLOCKED = (Report, TensorBoardPages, HParams)
NONE = ["callbacks.report=null", "callbacks.tensorboard=null", "callbacks.hparams=null", "logger=none"]


class ReportingBenchmark:
    """Trains and tests with and without plots and logs, alternately, each in a new process; also times the callbacks.

    The times of the callbacks are more reliable if the speed of the machine drifts.

    Args:
        rounds: Number of rounds of both.
        arguments: Arguments of `python src/train.py`.
    """

    def __init__(self, rounds: PositiveInt, arguments: Sequence[str] = ()) -> None:
        self.rounds = rounds
        self.arguments = arguments

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return seconds of both, and of each callback and logger of a run."""
        train = [sys.executable, str(PROJECT / "src" / "train.py"), f"trainer.accelerator={context.device}"]
        clock = f"+callbacks.clock._target_={Clock.__module__}.{Clock.__name__}"
        seconds: dict[str, list[float]] = {"without": [], "plots and logs": []}
        clocked: list[dict[str, float]] = []
        for turn in tqdm(range(self.rounds), "rounds", leave=False):
            with tempfile.TemporaryDirectory() as folder:
                plain = [*train, *self.arguments, f"outputs={folder}"]
                seconds["without"].append(run_process([*plain, f"name=without-{turn}", *NONE]).seconds)
                file = Path(folder, "clock.json")
                full = [*plain, f"name=with-{turn}", clock, f"+callbacks.clock.file={file}"]
                seconds["plots and logs"].append(run_process(full).seconds)
                clocked.append(json.loads(file.read_text()))
        print("from the shell")
        figures = print_comparison("seconds", "s", **seconds)
        share = sum(sum(run.values()) for run in clocked) / sum(seconds["plots and logs"])
        for name in clocked[0]:
            print(f"  {name:<20}{shown(sum(run[name] for run in clocked) / len(clocked)):>8} s a run")
        print(f"  together, by the clock: {share:.2%} of the time (mean of n={self.rounds})")
        return {**figures, "clocked": clocked, "share": share}


class Clock(Callback):
    """Times the plots and logs of a run, and writes the seconds to a file.

    Args:
        file: Path of the JSON file, seconds by class name.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seconds: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        clocked = [callback for callback in callbacks(trainer) if isinstance(callback, CLOCKED)]
        for part in [*clocked, *trainer.loggers]:
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
