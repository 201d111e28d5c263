"""Figures in the run folder: curves.png, confusion_matrix.png, reliability.png, mistakes.png."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.analysis.class_metrics import find_class_metrics
from pytorch_intro.data.datamodule import datamodule_of
from pytorch_intro.runs.folder import CONFUSION, CURVES, MISTAKES, RELIABILITY
from pytorch_intro.training.callbacks.epoch_logger import EpochLogger
from pytorch_intro.training.callbacks.step_logger import StepLogger
from pytorch_intro.training.checkpoint import BestLastCheckpoint
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.lightning_internals import callbacks

# Matplotlib is imported when there is something to plot: that takes a quarter of a second.


class Report(Callback):
    """Plots the curves after training; confusion matrix, reliability and the most confident errors after the test.

    The curves need callbacks.epoch_log, those by steps callbacks.step_log, the others callbacks.class_metrics.

    Args:
        run_dir: Run folder.
    """

    def __init__(self, run_dir: str) -> None:
        self.folder = Path(run_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        history = next((c.history for c in callbacks(trainer) if isinstance(c, EpochLogger)), None)
        if not history or not trainer.is_global_zero:
            return
        from pytorch_intro.analysis.plots import plot_curves, save

        steps = next((c.history for c in callbacks(trainer) if isinstance(c, StepLogger)), [])
        save(plot_curves(history, self.folder.name, best_epoch(trainer, history), steps), self.folder / CURVES)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from pytorch_intro.analysis.plots import plot_confusion, plot_errors, plot_reliability, save

        assert isinstance(pl_module, Classifier)
        metrics, data = find_class_metrics(trainer), datamodule_of(trainer)
        if metrics.test:
            matrix, title = metrics.test["confusion_matrix"], f"{self.folder.name}, test"
            save(plot_confusion(matrix, data.classes, title), self.folder / CONFUSION)
        if metrics.reliability:
            save(plot_reliability(metrics.reliability, pl_module.temperature), self.folder / RELIABILITY)
        if metrics.errors:
            save(plot_errors(metrics.errors, data), self.folder / MISTAKES)


def best_epoch(trainer: Trainer, history: dict[int, dict[str, float]]) -> int | None:
    """Return the epoch, counted from 1, with the best validation; None without validation or checkpoints."""
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, BestLastCheckpoint) or checkpoint.best_model_score is None:
        return None
    monitor, best = checkpoint.monitor, checkpoint.best_model_score
    epochs = [epoch for epoch, metrics in history.items() if metrics.get(monitor) == best]
    return min(epochs, key=lambda epoch: history[epoch].get("val/loss", 0.0), default=None)
