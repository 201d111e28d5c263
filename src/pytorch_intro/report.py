"""The pictures in a run's folder: curves.png, confusion_matrix.png, mistakes.png."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from pytorch_intro.checkpoint import BestAndLast
from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.epoch_log import EpochLog
from pytorch_intro.run_folder import CONFUSION, CURVES, MISTAKES

if TYPE_CHECKING:
    from PIL.Image import Image

# Matplotlib is imported when there is something to draw: that takes a quarter of a second.


class Report(Callback):
    """Draws the curves when the training is done, and what the test gave when that is.

    Without callbacks.epoch_log there are no curves to draw.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: str) -> None:
        self.folder = Path(run_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        history = next((callback.history for callback in callbacks if isinstance(callback, EpochLog)), None)
        if not history or not trainer.is_global_zero:
            return
        from pytorch_intro.pictures import draw_curves, save

        save(draw_curves(history, self.folder.name, best_epoch(trainer, history)), self.folder / CURVES)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from pytorch_intro.pictures import save

        classifier, data = trainer.lightning_module, data_of(trainer)
        assert isinstance(classifier, Classifier)
        if classifier.measured:
            figure = confusion_of(classifier.measured["matrix"], data.classes, f"{self.folder.name}, test")
            save(figure, self.folder / CONFUSION)
        if classifier.mistaken:
            save(mistakes_of(classifier.mistaken, data), self.folder / MISTAKES)


def best_epoch(trainer: Trainer, history: dict[int, dict[str, float]]) -> int | None:
    """The epoch, counted from 1, whose end gave the best validation; None if none did."""
    checkpoint = trainer.checkpoint_callback
    if not isinstance(checkpoint, BestAndLast) or checkpoint.best_model_score is None:
        return None
    monitor, best = checkpoint.monitor, checkpoint.best_model_score
    return next((epoch for epoch, figures in history.items() if figures.get(monitor) == best), None)


def confusion_of(matrix: Tensor, classes: Sequence[str], what: str, **options: int) -> "Image":
    """A confusion matrix, with the share of images that are told right.

    Args:
        matrix: (num_classes, num_classes) int64, rows are true classes.
        what: Which images these are.
        options: Of draw_confusion_matrix.
    """
    from pytorch_intro.pictures import draw_confusion_matrix

    right, images = int(matrix.trace()), int(matrix.sum())
    title = f"{what}: {right / images:.2%} of {images:,} images right"
    return draw_confusion_matrix(matrix.tolist(), classes, title, **options)


def mistakes_of(mistaken: dict[str, Tensor], data: DataModule, **options: int) -> "Image":
    """The most confident mistakes, with what the images were taken for and what they are.

    Args:
        mistaken: What ConfidentMistakes.compute gave.
        options: Of draw_contact_sheet.
    """
    from pytorch_intro.pictures import as_pictures, draw_contact_sheet

    columns = (mistaken[name].tolist() for name in ("predicted", "confidences", "targets"))
    captions = [
        f"{data.classes[wrong]} {share:.0%}\nis {data.classes[right]}"
        for wrong, share, right in zip(*columns, strict=True)
    ]
    title = (
        f"the {len(captions)} most confident mistakes of the test" if captions else "no image of the test was mistaken"
    )
    return draw_contact_sheet(as_pictures(data.normalize.denormalize(mistaken["images"])), captions, title, **options)


def sheet_of(images: Tensor, targets: Tensor, classes: Sequence[str], title: str, **options: int) -> "Image":
    """Images with their labels.

    Args:
        images: (N, C, H, W) uint8.
        targets: (N,) int64; or the classes' shares, (N, num_classes) float, of which the two largest are told.
        options: Of draw_contact_sheet.
    """
    from pytorch_intro.pictures import as_pictures, draw_contact_sheet

    if targets.ndim == 1:
        captions = [classes[target] for target in targets.tolist()]
    else:
        shares, numbers = targets.topk(min(2, len(classes)))
        captions = [
            "\n".join(f"{classes[number]} {share:.0%}" for share, number in zip(*both, strict=True) if share)
            for both in zip(shares.tolist(), numbers.tolist(), strict=True)
        ]
    return draw_contact_sheet(as_pictures(images), captions, title, **options)


def data_of(trainer: Trainer) -> DataModule:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(datamodule, DataModule)
    return datamodule
