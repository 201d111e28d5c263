"""The cost of plots and logs: whole commands with all of them and with none."""

import functools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison, run_process, to_text
from pytorch_intro.training.lightning_internals import callbacks

PACKAGES = ("pytorch_intro.reports.", "pytorch_intro.training.callbacks.step_logger")  # the first can be removed
NONE = [
    *(
        f"callbacks.{name}=null"
        for name in ("report", "model_card", "tensorboard", "hparams", "slow_steps", "step_log")
    ),
    "logger=none",
]


def measure_reporting(context: BenchmarkContext, rounds: PositiveInt, arguments: Sequence[str] = ()) -> Figures:
    """Train and test with and without plots and logs, alternately, each in a new process; also time the callbacks.

    Args:
        rounds: Number of rounds of both.
        arguments: Arguments of `python src/train.py`.

    Returns:
        Seconds of both, and of each callback and logger of a run, which are more reliable if the speed drifts.
    """
    seconds: dict[str, list[float]] = {"without": [], "plots and logs": []}
    clocked: list[dict[str, float]] = []
    for turn in tqdm(range(rounds), "rounds", leave=False):
        with tempfile.TemporaryDirectory() as folder:
            train = context.command("train", *arguments, f"outputs={folder}")
            seconds["without"].append(run_process([*train, f"name=without-{turn}", *NONE]).seconds)
            file = Path(folder, "clock.json")
            clock = [f"+callbacks.clock._target_={Clock.__module__}.{Clock.__name__}", f"+callbacks.clock.file={file}"]
            seconds["plots and logs"].append(run_process([*train, f"name=with-{turn}", *clock]).seconds)
            clocked.append(json.loads(file.read_text()))
    print("wall-clock time of the whole command")
    figures = print_comparison("seconds", "s", **seconds)
    share = sum(sum(run.values()) for run in clocked) / sum(seconds["plots and logs"])
    for name in clocked[0]:
        print(f"  {name:<20}{to_text(sum(run[name] for run in clocked) / len(clocked)):>8} s per run")
    print(f"  timed inside the callbacks: {share:.2%} of the run (mean of n={rounds})")
    return {**figures, "clocked": clocked, "share": share}


class Clock(Callback):
    """Times the plots and logs of a run: the callbacks of reports, StepLogger, and the loggers otherwise.

    Args:
        file: Path of the JSON file to write, seconds by class name.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.seconds: dict[str, float] = {}
        self.is_running = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        reports = [callback for callback in callbacks(trainer) if type(callback).__module__.startswith(PACKAGES)]
        for timed in [*reports, *trainer.loggers]:
            for hook in [name for name in dir(timed) if name.startswith(("on_", "log_"))]:
                if callable(getattr(timed, hook)):
                    setattr(timed, hook, self.timed(type(timed).__name__, getattr(timed, hook)))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        self.seconds.setdefault(name, 0.0)

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            if self.is_running:  # called by another one, whose time it is
                return function(*arguments, **named)
            self.is_running, started = True, time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - started
                self.is_running = False

        return run

    def on_result(self, trainer: Trainer, result: object) -> None:
        self.file.write_text(json.dumps(self.seconds))
