"""The cost of checkpoints: epochs with and without them."""

import statistics
import tempfile
import time

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks.harness import BenchmarkContext, Figures, print_comparison
from pytorch_intro.benchmarks.loop import lightning_epochs
from pytorch_intro.training.lightning_internals import callbacks
from pytorch_intro.training.setup import build_classifier, build_datamodule


def measure_checkpoints(context: BenchmarkContext, rounds: PositiveInt, epochs: PositiveInt) -> Figures:
    """Train the same classifier with and without checkpoints, alternately.

    Args:
        rounds: Number of rounds of both.
        epochs: Number of epochs per round, for trainer.max_epochs.

    Returns:
        Seconds per epoch of both, and seconds per checkpoint, which are more reliable if the speed drifts.
    """
    datamodule = build_datamodule(context.config)
    seconds: dict[str, list[float]] = {"without": [], "checkpoints": []}
    saving: list[float] = []
    for _ in tqdm(range(rounds), "rounds", leave=False):
        for name in seconds:
            with tempfile.TemporaryDirectory() as folder:
                trainer = context.build_trainer(folder)
                if name == "checkpoints":
                    time_checkpoints(trainer, saving)
                else:
                    callbacks(trainer)[:] = [c for c in callbacks(trainer) if not isinstance(c, Checkpoint)]
                seconds[name] += lightning_epochs(build_classifier(context.config, datamodule), datamodule, trainer)
    print("an epoch")
    figures = print_comparison("seconds", "s", **seconds)
    share = sum(saving) / sum(seconds["checkpoints"])
    print(f"a checkpoint  {statistics.median(saving):.3g} s (median of n={len(saving)}): {share:.2%} of the time")
    return {**figures, "saving": saving, "share": share}


def time_checkpoints(trainer: Trainer, seconds: list[float]) -> None:
    """Append the seconds of each checkpoint to a list."""
    save = trainer.save_checkpoint

    def timed(*arguments: object, **named: object) -> None:
        started = time.perf_counter()
        save(*arguments, **named)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)

    trainer.save_checkpoint = timed  # type: ignore[method-assign]
