"""What it costs that a run can be carried on: epochs with checkpoints beside epochs without."""

import statistics
import tempfile
import time

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from pydantic import PositiveInt
from tqdm import tqdm

from pytorch_intro.benchmarks.loop import lightning_epochs
from pytorch_intro.benchmarks.workbench import Figures, Workbench, compared


class CheckpointBenchmark:
    """Trains the same classifier with and without checkpoints, in turn.

    Args:
        rounds: Of both ways.
        epochs: A round.
    """

    def __init__(self, rounds: PositiveInt, epochs: PositiveInt) -> None:
        self.rounds = rounds
        self.epochs = epochs

    def __call__(self, workbench: Workbench) -> Figures:
        """Seconds of each epoch of each way, and of each checkpoint, which tell more where the speed drifts."""
        datamodule = workbench.make_datamodule()
        without: list[float] = []
        within: list[float] = []
        saving: list[float] = []
        for _ in tqdm(range(self.rounds), "rounds", leave=False):
            for epochs, is_saving in ((without, False), (within, True)):
                with tempfile.TemporaryDirectory() as folder:
                    trainer = workbench.make_trainer(folder)
                    if is_saving:
                        clock(trainer, saving)
                    else:
                        kept = [c for c in trainer.callbacks if not isinstance(c, Checkpoint)]  # type: ignore[attr-defined]
                        trainer.callbacks = kept  # type: ignore[attr-defined]
                    epochs += lightning_epochs(workbench.make_classifier(datamodule), datamodule, trainer)
        print("an epoch")
        figures = compared("seconds", "s", without=without, checkpoints=within)
        share = sum(saving) / sum(within)
        print(f"a checkpoint  {statistics.median(saving):.3g} s (median of n={len(saving)}): {share:.2%} of the time")
        return {**figures, "saving": saving, "share": share}


def clock(trainer: Trainer, seconds: list[float]) -> None:
    """Note how long each checkpoint takes."""
    save = trainer.save_checkpoint

    def timed(*arguments: object, **named: object) -> None:
        started = time.perf_counter()
        save(*arguments, **named)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)

    trainer.save_checkpoint = timed  # type: ignore[method-assign]
