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
from pytorch_intro.training.lightning_internals import callbacks, set_callbacks


class CheckpointBenchmark:
    """Trains the same classifier with and without checkpoints, alternately.

    Args:
        rounds: Number of rounds of both.
        epochs: Number of epochs per round.
    """

    def __init__(self, rounds: PositiveInt, epochs: PositiveInt) -> None:
        self.rounds = rounds
        self.epochs = epochs

    def __call__(self, context: BenchmarkContext) -> Figures:
        """Return seconds per epoch of both, and per checkpoint, which are more reliable if the speed drifts."""
        datamodule = context.make_datamodule()
        without: list[float] = []
        within: list[float] = []
        saving: list[float] = []
        for _ in tqdm(range(self.rounds), "rounds", leave=False):
            for epochs, is_saving in ((without, False), (within, True)):
                with tempfile.TemporaryDirectory() as folder:
                    trainer = context.make_trainer(folder)
                    if is_saving:
                        clock(trainer, saving)
                    else:
                        set_callbacks(trainer, [c for c in callbacks(trainer) if not isinstance(c, Checkpoint)])
                    epochs += lightning_epochs(context.make_classifier(datamodule), datamodule, trainer)
        print("an epoch")
        figures = print_comparison("seconds", "s", without=without, checkpoints=within)
        share = sum(saving) / sum(within)
        print(f"a checkpoint  {statistics.median(saving):.3g} s (median of n={len(saving)}): {share:.2%} of the time")
        return {**figures, "saving": saving, "share": share}


def clock(trainer: Trainer, seconds: list[float]) -> None:
    """Append the seconds of each checkpoint to a list."""
    save = trainer.save_checkpoint

    def timed(*arguments: object, **named: object) -> None:
        started = time.perf_counter()
        save(*arguments, **named)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)

    trainer.save_checkpoint = timed  # type: ignore[method-assign]
