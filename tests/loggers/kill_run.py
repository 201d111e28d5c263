"""A callback that ends the process of a training by kill -9."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.loggers.mlflow_logger import MLFlowLogger


class KillRun(Callback):
    """Kills the process before a batch, counted from 0; not a second time.

    Args:
        marker: File that exists once it has happened.
        sent: Whether to wait until MLflow has all rows so far.
    """

    def __init__(self, marker: str, batch: int, sent: bool) -> None:
        self.marker, self.batch, self.sent = Path(marker), batch, sent

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.total_batch_idx != self.batch or self.marker.exists():
            return
        for logger in trainer.loggers:
            while self.sent and isinstance(logger, MLFlowLogger) and logger.sender.pending:
                time.sleep(0.01)
        self.marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
