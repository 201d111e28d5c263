"""One bar for the batches of an epoch, drawn rarely."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from pydantic import NonNegativeInt


class ProgressBar(TQDMProgressBar):
    """Lightning's bar for training and testing; none for validation, and none where nobody looks.

    Args:
        refresh_rate: Batches between two drawings; 0 draws nothing.
    """

    def __init__(self, refresh_rate: NonNegativeInt = 20) -> None:
        super().__init__(refresh_rate if sys.stdout.isatty() else 0)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
