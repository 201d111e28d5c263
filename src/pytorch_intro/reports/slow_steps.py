"""A warning when training becomes several times slower than it was."""

import logging
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.common.cpu import CpuMonitor

log = logging.getLogger(__name__)

WINDOW = 3.0  # seconds of steps that are compared
SLOWDOWN = 3.0  # times the fastest window


class SlowStepWarning(Callback):
    """Warns once if the steps of WINDOW seconds take SLOWDOWN times as long as the fastest ones of this process.

    Usually another program uses the cores, and all threads wait for the one that has to share its core. Only on the
    CPU: on other devices, a step ends before its work is done.
    """

    def __init__(self) -> None:
        self.fastest = float("inf")  # seconds per step
        self.steps = 0
        self.seconds = 0.0
        self.has_warned = False
        self.monitor = CpuMonitor()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = time.perf_counter()

    on_train_start = on_validation_end = on_train_epoch_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now
        self.steps += 1
        if self.seconds < WINDOW or self.has_warned or pl_module.device.type != "cpu":
            return
        seconds = self.seconds / self.steps
        if seconds > SLOWDOWN * self.fastest:
            log.warning(slow_line(seconds / self.fastest, self.monitor.cores_used_by_others()))
            self.has_warned = True
        self.fastest = min(self.fastest, seconds)
        self.steps, self.seconds = 0, 0.0
        self.monitor.restart()


def slow_line(slowdown: float, used: float) -> str:
    """Return the warning, with a remedy for its likely cause: other programs, or else memory or storage."""
    line = f"training: steps take {slowdown:.1f} times as long as before"
    if round(used) == 0:
        return f"{line}; look for a lack of memory, a slow disk or a hot CPU"
    threads = max(1, torch.get_num_threads() - round(used))
    return f"{line}, other programs use {used:.1f} cores; close them, or start runs with trainer.threads={threads}"
