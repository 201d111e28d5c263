"""Checkpoint files that are there whole or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pytorch_intro.atomic import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint, flushes to the disk, then renames; whatever happens, no half file has its name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            torch.save(checkpoint, file)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which keeps the last weights where there is no validation to tell the best."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.limit_val_batches == 0 or getattr(trainer.datamodule, "val_set", None) is None:  # type: ignore[attr-defined]
            self.monitor = None
        super().setup(trainer, pl_module, stage)


@dataclass
class ChosenWeights:
    """The weights that are tested and used: the best by validation, or the last where none were saved.

    Attributes:
        path: Their checkpoint; None for the weights that the training ended with.
        epoch: The epoch that they come from, counted from 1.
        metrics: val/… of these weights, and what else was measured in the last epoch.
    """

    path: str | None
    epoch: int
    metrics: dict[str, float]


def chosen_weights(trainer: Trainer) -> ChosenWeights:
    """The weights to test after trainer.fit, with the validation's figures as they were saved beside them."""
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path:
        return ChosenWeights(None, trainer.current_epoch, metrics)
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    return ChosenWeights(path, checkpoint["epoch"] + 1, metrics | checkpoint["metrics"])
