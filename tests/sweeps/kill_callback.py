"""A part of trainings that test_launchers.py has run in other processes."""

import os
import signal
from pathlib import Path

import ray
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class KillCallback(Callback):
    """Writes down how many threads compute and on which node; kills its process in the folder that is named.

    On the doomed node it stays in the third epoch, until that node is lost.
    """

    def __init__(self, run_dir: str, fatal: str, doomed: str = "") -> None:
        self.run_dir = Path(run_dir)
        self.fatal = fatal
        self.doomed = doomed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (self.run_dir / "threads").write_text(str(torch.get_num_threads()))
        if ray.is_initialized():
            (self.run_dir / "node").write_text(ray.get_runtime_context().get_node_id())
        if self.run_dir.name == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2 and self.doomed and ray.get_runtime_context().get_node_id() == self.doomed:
            signal.pause()
