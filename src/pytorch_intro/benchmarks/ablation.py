"""Ablation: a recipe and variants of it, each of which changes one thing."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import PositiveInt
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pytorch_intro.analysis.markdown import markdown_table
from pytorch_intro.benchmarks.accuracy import Runs, mean_and_deviation, run_recipe
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, check_arguments, quiet
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.ingest.fashion_mnist import prepare
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.training.hardware import resolve_hardware
from pytorch_intro.training.setup import build_experiment


def measure_ablation(
    context: BenchmarkContext,
    seeds: PositiveInt,
    variants: Mapping[str, Sequence[str]],
    arguments: Sequence[str] = (),
) -> Figures:
    """Train the recipe and its variants with several seeds, alternately, without using the test images.

    Args:
        seeds: Number of runs of each, with seed=0, 1, …
        variants: Arguments of `python src/train.py` by name; the first is the baseline.
        arguments: Further arguments of all variants.

    Returns:
        Result of each run, with the floating point operations of its training.
    """
    check_arguments([*variant, *arguments] for variant in variants.values())
    prepare(PROJECT / "data")  # before the runs, so that all find it
    runs: Runs = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in tqdm([(seed, name) for seed in range(seeds) for name in runs], "runs", leave=False):
            outputs = Path(tempfile.mkdtemp(dir=folder))
            command = context.command("train", *variants[name], *arguments, "trainer.limit_test_batches=0")
            run = run_recipe(command, seed, outputs)
            flop = runs[name][0]["flop"] if runs[name] else training_flop(outputs / "run" / "config.yaml")
            runs[name].append({**run, "flop": flop})
    print_table(runs)
    return {"runs": runs}


def training_flop(config_file: Path) -> float:
    """Return the floating point operations of an epoch's matrix products: those of its first step, times its steps."""
    config = load_config(config_file)
    config.trainer.update({"limit_train_batches": 1, "limit_val_batches": 0, "enable_checkpointing": False})
    config.logger = {}
    with quiet():
        datamodule, classifier, trainer = build_experiment(config, resolve_hardware(config))
        with FlopCounterMode(display=False) as counter:
            trainer.fit(classifier, datamodule)
    return counter.get_total_flops() * len(datamodule.train_dataloader())


def print_table(runs: Runs) -> None:
    """Print a table: validation accuracy (mean ± standard deviation), seconds and FLOPs of training."""
    header = ("variant", "val/accuracy", "difference", "training, seconds", "training, TFLOP", "n")
    accuracies = {name: [100 * run["val/accuracy"] for run in done] for name, done in runs.items()}
    baseline = statistics.mean(next(iter(accuracies.values())))
    rows: list[Sequence[str]] = []
    for name, done in runs.items():
        difference = f"{statistics.mean(accuracies[name]) - baseline:+.2f}" if rows else ""
        seconds = statistics.median(run["train_seconds"] for run in done)
        figures = (mean_and_deviation(accuracies[name]), difference, f"{seconds:.1f}")
        rows.append((name, *figures, f"{done[0]['flop'] / 1e12:.3g}", str(len(done))))
    print(markdown_table(header, rows))
