"""Ablation: a recipe and variants of it, each of which changes one thing."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveInt
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pytorch_intro.benchmarks.accuracy import run_recipe
from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, quiet
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.fashion_mnist import prepare
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.training.hardware import resolve_hardware
from pytorch_intro.training.setup import build_experiment


class AblationBenchmark:
    """Trains the recipe and its variants with several seeds, alternately; the test images are not used.

    Args:
        seeds: Number of runs of each, with seed=0, 1, …
        variants: Arguments of `python src/train.py` by name; the first is the baseline.
        arguments: Further arguments of all variants.
    """

    def __init__(
        self, seeds: PositiveInt, variants: Mapping[str, Sequence[str]], arguments: Sequence[str] = ()
    ) -> None:
        self.seeds = seeds
        self.variants = {name: [*some, *arguments, "trainer.limit_test_batches=0"] for name, some in variants.items()}

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return the result of each run, with the floating point operations of its training."""
        prepare(PROJECT / "data")  # before the runs, so that all find it
        device = f"trainer.accelerator={context.device}"
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in self.variants}
        with tempfile.TemporaryDirectory() as folder:
            for seed, name in tqdm([(seed, name) for seed in range(self.seeds) for name in runs], "runs", leave=False):
                outputs = Path(tempfile.mkdtemp(dir=folder))
                run = run_recipe([device, *self.variants[name]], seed, outputs)
                done = runs[name]
                flop = done[0]["flop"] if done else training_flop(outputs / "run" / "config.yaml")
                done.append({**run, "flop": flop})
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


def print_table(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print a table: validation accuracy (mean ± standard deviation), seconds and FLOPs of training."""
    first = next(iter(runs))
    base = statistics.mean(run["val/accuracy"] for run in runs[first])
    print("| variant | val/accuracy | difference | training, seconds | training, TFLOP | n |")
    print("|---|---|---|---|---|---|")
    for name, some in runs.items():
        accuracies = [100 * run["val/accuracy"] for run in some]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(some) > 1 else ""
        mean = statistics.mean(accuracies)
        difference = "" if name == first else f"{mean - 100 * base:+.2f}"
        seconds = statistics.median(run["train_seconds"] for run in some)
        flop = some[0]["flop"] / 1e12
        print(f"| {name} | {mean:.2f} %{spread} | {difference} | {seconds:.1f} | {flop:.3g} | {len(some)} |")
