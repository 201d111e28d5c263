"""The time that a run has taken in all its processes."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn


class TotalTime(Callback):
    """Measures the seconds since the command started, plus those of the earlier processes of a resumed run.

    Earlier ones count up to the checkpoint that the run resumes from.

    Args:
        started: Value of time.perf_counter() at the start of the command.
    """

    def __init__(self, started: float) -> None:
        self.started, self.earlier = started, 0.0

    def seconds(self) -> float:
        return self.earlier + time.perf_counter() - self.started

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["total_seconds"] = self.seconds()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # not before the test, whose checkpoint may be an earlier one
            self.earlier = checkpoint.get("total_seconds", 0.0)  # 0 if an older version has saved it
