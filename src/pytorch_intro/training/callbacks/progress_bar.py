"""A progress bar over the batches of an epoch."""

import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from pydantic import NonNegativeInt


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar for training and testing, without one for validation; only on a terminal.

    Args:
        refresh_rate: Batches between two updates; 0 disables the bar.
    """

    def __init__(self, refresh_rate: NonNegativeInt = 20) -> None:
        super().__init__(refresh_rate if sys.stdout.isatty() else 0)

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
