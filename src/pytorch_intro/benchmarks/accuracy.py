"""Accuracy and time of whole runs, from the shell to the tested result, and of PyTorch's quickstart tutorial."""

import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from pytorch_intro.benchmarks import quickstart
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, Process, print_comparison, run_process
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.fashion_mnist import prepare

Runs = dict[str, list[dict[str, Any]]]

QUICKSTART = "quickstart tutorial"
DEFAULT = "default"
METRICS = ("test/accuracy", "val/accuracy", "epochs", "train_seconds", "total_seconds", "images_per_second")
ONE_VIEW = "test/accuracy_no_tta"


class AccuracyBenchmark:
    """Runs `python src/train.py` with several seeds, alternately with the tutorial.

    Args:
        seeds: Number of runs of each recipe, with seed=0, 1, …; the tutorial sets no seed.
        recipes: Names of experiments; "default" is the config without one.
        arguments: Further arguments of `python src/train.py` for all recipes.
        tutorial: Whether to run the tutorial as well, equally often.
    """

    def __init__(
        self, seeds: PositiveInt, recipes: Sequence[str], arguments: Sequence[str] = (), tutorial: bool = True
    ) -> None:
        self.seeds = seeds
        self.recipes = {name: [*([] if name == DEFAULT else [f"experiment={name}"]), *arguments] for name in recipes}
        self.tutorial = tutorial

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return the seconds, peak memory and result of each run; save a plot."""
        root = str(PROJECT / "data")
        prepare(PROJECT / "data")  # before the runs, so that all find it
        runs: Runs = {name: [] for name in [*([QUICKSTART] if self.tutorial else []), *self.recipes]}
        with tempfile.TemporaryDirectory() as folder:
            for seed, name in tqdm([(seed, name) for seed in range(self.seeds) for name in runs], "runs", leave=False):
                if name == QUICKSTART:
                    runs[name].append(run_quickstart(root, context.device))
                else:
                    arguments = [f"trainer.accelerator={context.device}", *self.recipes[name]]
                    runs[name].append(run_recipe(arguments, seed, Path(folder) / f"{name}-{seed}"))
        print_accuracies(runs)
        seconds = {name: [run["seconds"] for run in some] for name, some in runs.items()}
        print("from the shell to the tested result")
        times = print_comparison("seconds", "s", **seconds)
        picture = context.file.with_suffix(".png")
        plot(runs, picture)
        print(f"plot: {picture}")
        return {"runs": runs, **times}


def run_quickstart(root: str, device: str) -> dict[str, Any]:
    process = run_process([sys.executable, quickstart.__file__, root, device], stderr=subprocess.DEVNULL)
    epochs = [json.loads(line) for line in process.output.splitlines()]
    accuracy, speed = epochs[-1]["accuracy"], epochs[-1]["images_per_second"]
    return {**taken(process), "test/accuracy": accuracy, "images_per_second": speed, "epochs": epochs}


def run_recipe(arguments: Sequence[str], seed: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *arguments, f"seed={seed}"]
    process = run_process([*command, f"outputs={folder}", "name=run"])
    result = json.loads((folder / "run" / "result.json").read_text())
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it logs each file that it reads
    events = EventAccumulator(str(folder / "run" / "tensorboard")).Reload()
    one_view = events.Scalars(ONE_VIEW)[-1].value if ONE_VIEW in events.Tags()["scalars"] else None
    return {**taken(process), **{name: result[name] for name in METRICS}, ONE_VIEW: one_view}


def taken(process: Process) -> dict[str, float]:
    return {"seconds": process.seconds, "memory": process.memory}


def print_accuracies(runs: Runs) -> None:
    """Print mean and standard deviation of the accuracies, and the peak memory."""
    print("accuracy on the official test images: mean ± standard deviation over the seeds, and each")
    width = max(map(len, runs))
    for name, some in runs.items():
        for metric in ("test/accuracy", ONE_VIEW):
            values = [100 * run[metric] for run in some if run.get(metric) is not None]
            if values:
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                each = ", ".join(f"{value:.2f}" for value in values)
                view = "" if metric == "test/accuracy" else ", of one view"
                memory = max(run["memory"] for run in some) / 1e9
                print(f"  {name + view:<{width + 14}} {statistics.mean(values):.2f}{spread} % ({each}) {memory:.2f} GB")


def plot(runs: Runs, file: Path) -> None:
    """Plot accuracy over time (a point per run, a line for the tutorial's epochs), and images per second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    for name, some in runs.items():
        if name == QUICKSTART:
            epochs = some[0]["epochs"]
            x, y = [epoch["seconds"] for epoch in epochs], [100 * epoch["accuracy"] for epoch in epochs]
            left.plot(x, y, marker=".", color="gray", label=name)
        else:
            x, y = [run["seconds"] for run in some], [100 * run["test/accuracy"] for run in some]
            left.plot(x, y, "o", label=name)
    left.set(xlabel="seconds from the shell", ylabel="test accuracy in %", xscale="log")
    for formatted in (left.xaxis.set_major_formatter, left.xaxis.set_minor_formatter):
        formatted("{x:g}")
    left.grid(alpha=0.3, which="both")
    left.legend()
    speeds = {name: statistics.median(run["images_per_second"] for run in some) for name, some in runs.items()}
    right.barh(list(speeds), list(speeds.values()), color=["gray" if name == QUICKSTART else "C0" for name in speeds])
    right.set(xlabel="training images per second")
    right.invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
