"""What each part of a recipe buys: the recipe beside variants of it, each of which changes one thing."""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import PositiveInt
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pytorch_intro.benchmarks.accuracy import run_recipe
from pytorch_intro.benchmarks.workbench import Figures, Workbench, quiet
from pytorch_intro.build import build, build_classifier, build_optimization
from pytorch_intro.fashion_mnist import prepare
from pytorch_intro.hardware import choose_hardware
from pytorch_intro.paths import PROJECT
from pytorch_intro.recorded_config import load_config
from pytorch_intro.trainer import build_trainer


class AblationBenchmark:
    """Trains the recipe and its variants with several seeds, alternately; the test images stay untouched.

    Args:
        seeds: Runs of each, with seed=0 and so on.
        variants: Named arguments of `python src/train.py`; the others are compared with the first.
        arguments: Of all of them.
    """

    def __init__(
        self, seeds: PositiveInt, variants: Mapping[str, Sequence[str]], arguments: Sequence[str] = ()
    ) -> None:
        self.seeds = seeds
        self.variants = {name: [*some, *arguments, "trainer.limit_test_batches=0"] for name, some in variants.items()}

    def __call__(self, workbench: Workbench) -> Figures:
        """Of each run: what it recorded, and the floating point operations of its training."""
        prepare(PROJECT / "data")  # so that all runs find it
        device = f"trainer.accelerator={workbench.device}"
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in self.variants}
        with tempfile.TemporaryDirectory() as folder:
            for seed, name in tqdm([(seed, name) for seed in range(self.seeds) for name in runs], "runs", leave=False):
                outputs = Path(tempfile.mkdtemp(dir=folder))
                run = run_recipe([device, *self.variants[name]], seed, outputs)
                done = runs[name]
                flop = done[0]["flop"] if done else training_flop(outputs / "run" / "config.yaml")
                done.append({**run, "flop": flop})
        tell(runs)
        return {"runs": runs}


def training_flop(config_file: Path) -> float:
    """Floating point operations of the products in a run's training: those of an epoch's first step, for all of it."""
    config = load_config(config_file)
    few = {"limit_train_batches": 1, "limit_val_batches": 0, "enable_checkpointing": False}
    config.trainer.update(few)
    with quiet():
        hardware = choose_hardware(config.trainer.accelerator, config.trainer.devices, config.trainer.precision)
        datamodule = build(config.data, "data")
        datamodule.setup("fit")
        optimization = build_optimization(config.optimizer, config.scheduler)
        classifier = build_classifier(config.classifier, config.model, datamodule, *optimization)
        trainer = build_trainer(config.trainer, config.callbacks, OmegaConf.create({}), hardware)
        with FlopCounterMode(display=False) as counter:
            trainer.fit(classifier, datamodule)
    return counter.get_total_flops() * len(datamodule.train_dataloader())


def tell(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print a table: accuracy on the validation images, mean ± standard deviation; seconds and FLOPs of training."""
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
