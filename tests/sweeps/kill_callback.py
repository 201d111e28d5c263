"""A callback for runs that test_launchers.py starts in other processes."""

import os
import signal
from pathlib import Path

import ray
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class KillCallback(Callback):
    """Record the number of threads and the Ray node in the run folder, and kill the process of one job.

    Args:
        run_dir: Folder of the run.
        fatal: Name of the job whose process is killed when training starts.
        doomed: Ray node on which jobs wait in the third epoch, until the node is lost.
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
