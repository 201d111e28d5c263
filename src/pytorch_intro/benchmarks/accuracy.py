"""Accuracy and wall-clock time of whole commands, and of PyTorch's quickstart tutorial."""

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
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, check_arguments, print_comparison, run_process
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.ingest.fashion_mnist import prepare

Runs = dict[str, list[dict[str, Any]]]

QUICKSTART = "quickstart tutorial"
DEFAULT = "default"
METRICS = ("test/accuracy", "val/accuracy", "epochs", "train_seconds", "total_seconds", "images_per_second")
NO_TTA = "test/accuracy_no_tta"


def measure_accuracy(
    context: BenchmarkContext,
    seeds: PositiveInt,
    recipes: Sequence[str],
    arguments: Sequence[str] = (),
    tutorial: bool = True,
) -> Figures:
    """Train each recipe with several seeds, alternately with the tutorial; save a plot.

    Args:
        seeds: Number of runs of each recipe, with seed=0, 1, …; the tutorial sets no seed.
        recipes: Names of experiments; "default" is the config without one.
        arguments: Further arguments of `python src/train.py` for all recipes.
        tutorial: Whether to run the tutorial as well, equally often.

    Returns:
        Seconds, peak memory and result of each run.
    """
    root = PROJECT / "data"
    own = {name: [*([] if name == DEFAULT else [f"experiment={name}"]), *arguments] for name in recipes}
    check_arguments(own.values())
    prepare(root)  # before the runs, so that all find it
    runs: Runs = {name: [] for name in [*([QUICKSTART] if tutorial else []), *recipes]}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in tqdm([(seed, name) for seed in range(seeds) for name in runs], "runs", leave=False):
            if name == QUICKSTART:
                runs[name].append(run_quickstart(str(root), context.device))
            else:
                runs[name].append(
                    run_recipe(context.command("train", *own[name]), seed, Path(folder) / f"{name}-{seed}")
                )
    print_accuracies(runs)
    print("wall-clock time of the whole command")
    times = print_comparison("seconds", "s", **{name: [run["seconds"] for run in done] for name, done in runs.items()})
    picture = context.file.with_suffix(".png")
    plot(runs, picture)
    print(f"plot: {picture}")
    return {"runs": runs, **times}


def run_quickstart(root: str, device: str) -> dict[str, Any]:
    command = [sys.executable, quickstart.__file__, root, device]
    seconds, memory, output = run_process(command, stderr=subprocess.DEVNULL)
    epochs = [json.loads(line) for line in output.splitlines()]
    accuracy, speed = epochs[-1]["accuracy"], epochs[-1]["images_per_second"]
    figures = {"test/accuracy": accuracy, "images_per_second": speed, "epochs": epochs}
    return {"seconds": seconds, "memory": memory, **figures}


def run_recipe(command: Sequence[str], seed: int, folder: Path) -> dict[str, Any]:
    """Train in a new process; return its seconds, peak memory and result.

    Args:
        command: Command line of the training.
        seed: Seed of the run.
        folder: Folder of all runs; the run is in folder/run.
    """
    seconds, memory, _ = run_process([*command, f"seed={seed}", f"outputs={folder}", "name=run"])
    result = json.loads((folder / "run" / "result.json").read_text())
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it logs each file that it reads
    events = EventAccumulator(str(folder / "run" / "tensorboard")).Reload()
    no_tta = events.Scalars(NO_TTA)[-1].value if NO_TTA in events.Tags()["scalars"] else None
    return {"seconds": seconds, "memory": memory, **{name: result[name] for name in METRICS}, NO_TTA: no_tta}


def print_accuracies(runs: Runs) -> None:
    """Print mean and standard deviation of the accuracies, and the peak memory."""
    print("accuracy on the official test images: mean ± standard deviation over the seeds, and each")
    width = max(map(len, runs)) + len(", no TTA")
    for name, done in runs.items():
        memory = max(run["memory"] for run in done) / 1e9
        for metric, suffix in (("test/accuracy", ""), (NO_TTA, ", no TTA")):
            values = [100 * run[metric] for run in done if run.get(metric) is not None]
            if values:
                each = ", ".join(f"{value:.2f}" for value in values)
                print(f"  {name + suffix:<{width}} {mean_and_deviation(values)} ({each}) {memory:.2f} GB")


def mean_and_deviation(values: Sequence[float]) -> str:
    """Return "93.88 % ± 0.13", or the mean alone for one value."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f} %{deviation}"


def plot(runs: Runs, file: Path) -> None:
    """Plot accuracy over time (a point per run, a line for the tutorial's epochs), and images per second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    for name, done in runs.items():
        if name == QUICKSTART:
            x, y = zip(*((epoch["seconds"], 100 * epoch["accuracy"]) for epoch in done[0]["epochs"]), strict=True)
            left.plot(x, y, marker=".", color="gray", label=name)
        else:
            x, y = zip(*((run["seconds"], 100 * run["test/accuracy"]) for run in done), strict=True)
            left.plot(x, y, "o", label=name)
    left.set(xlabel="seconds of the whole command", ylabel="test accuracy in %", xscale="log")
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter("{x:g}")
    left.grid(alpha=0.3, which="both")
    left.legend()
    speeds = {name: statistics.median(run["images_per_second"] for run in done) for name, done in runs.items()}
    right.barh(list(speeds), list(speeds.values()), color=["gray" if name == QUICKSTART else "C0" for name in speeds])
    right.set(xlabel="training images per second")
    right.invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
