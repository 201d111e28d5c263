"""A callback for runs that test_launchers.py starts on a Ray cluster."""

import signal
from pathlib import Path

import ray
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class NodeCallback(Callback):
    """Record the number of threads and the Ray node in the run folder.

    Args:
        run_dir: Folder of the run.
        doomed: Ray node on which jobs wait in the third epoch, until the node is lost.
    """

    def __init__(self, run_dir: str, doomed: str) -> None:
        self.run_dir = Path(run_dir)
        self.doomed = doomed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (self.run_dir / "threads").write_text(str(torch.get_num_threads()))
        (self.run_dir / "node").write_text(ray.get_runtime_context().get_node_id())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2 and ray.get_runtime_context().get_node_id() == self.doomed:
            signal.pause()
