"""Parts of trainings that test_launchers.py has run in other processes."""

import os
import signal
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class Killer(Callback):
    """Writes down how many threads compute, and kills its process if that is wanted."""

    def __init__(self, file: str, fatal: bool) -> None:
        self.file = Path(file)
        self.fatal = fatal

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self.file.open("a") as file:
            file.write(f"{torch.get_num_threads()}\n")
        if self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
