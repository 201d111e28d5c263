"""Ctrl-C and the signals of job schedulers: finish the step, save a checkpoint, exit."""

import logging
import signal
import sys
import threading
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.common.distributed import all_reduce_max
from pytorch_intro.common.errors import SIGNALS
from pytorch_intro.training.checkpoint import BestLastCheckpoint
from pytorch_intro.training.lightning_internals import is_resumable_step

log = logging.getLogger(__name__)

EXIT_CODES = {signal.SIGINT: 130, **SIGNALS}


class GracefulShutdown(Callback):
    """Ends training after the current step, with a checkpoint, when a signal arrives: exit code 130 or 143.

    A second signal ends it immediately, except after SIGHUP: when a terminal is closed, both the system and the shell
    may send one, and a sweep also ends its jobs. A validation is finished first. With several ranks, all stop after
    the same step, whichever of them received the signal.
    """

    def __init__(self) -> None:
        self.exit_code = 0  # of a signal that this rank has received; another rank's must not make it a second one
        self.is_hung_up = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the handlers of all these signals; Lightning restores them after training."""
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code and not self.is_hung_up:
            raise SystemExit(self.exit_code)
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        self.is_hung_up |= signal.Signals(number).name == "SIGHUP"  # does not exist on Windows
        print("\nfinishing this step; press Ctrl-C again to stop immediately", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        code = all_reduce_max(self.exit_code)  # all ranks have to call this
        if code and is_resumable_step(trainer):
            if isinstance(trainer.checkpoint_callback, BestLastCheckpoint):
                trainer.checkpoint_callback.save_last(trainer)
            self.stop(trainer, trainer.current_epoch + 1, code)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if code := all_reduce_max(self.exit_code):
            self.stop(trainer, trainer.current_epoch, code)

    # In both, the end of the epoch before has saved a checkpoint. Not on_train_end: Lightning restores the handlers
    # after it, and a signal in between would be lost.
    on_fit_end = on_train_epoch_start

    def stop(self, trainer: Trainer, epoch: int, exit_code: int) -> None:
        """Log where training stopped, and exit; `epoch` is that of the last step, counted from 1."""
        saved = "no checkpoint was saved"
        if isinstance(trainer.checkpoint_callback, BestLastCheckpoint):
            saved = f"saved {trainer.checkpoint_callback.last}; run the same command to resume"
        log.warning(f"interrupted at step {trainer.global_step}, epoch {max(1, epoch)}: {saved}")
        raise SystemExit(exit_code)
