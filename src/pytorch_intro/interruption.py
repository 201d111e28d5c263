"""Ctrl-C and the signals of schedulers: the step is finished and saved, and the same command carries on from there."""

import logging
import signal
import sys
import threading
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pytorch_intro.checkpoint import BestAndLast, can_be_saved
from pytorch_intro.errors import SIGNALS
from pytorch_intro.processes import highest

log = logging.getLogger(__name__)

EXIT_CODES = {signal.SIGINT: 130, **SIGNALS}


class Interruption(Callback):
    """Ends the training after the step that is under way, with its checkpoint, when one of several signals comes.

    A second signal ends it at once. During a validation it goes on to the end of that. Where there are several
    processes, all stop after the same step, whichever was told.

    Raises:
        SystemExit: with 130 for Ctrl-C and 143 for the others.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self.earlier: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handlers, which it removes itself after the training."""
        if threading.current_thread() is threading.main_thread():
            self.earlier = {number: signal.signal(number, self.on_signal) for number in EXIT_CODES}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code:
            raise SystemExit(self.exit_code)
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        print("\nstopping after this step; once more to stop at once", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if can_be_saved(trainer, batch_idx) and self.is_over():
            if isinstance(trainer.checkpoint_callback, BestAndLast):
                trainer.checkpoint_callback.save_last(trainer)
            self.stop(trainer, trainer.current_epoch + 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_over():
            self.stop(trainer, trainer.current_epoch)

    on_train_end = on_train_epoch_start  # in both, the epoch before has been saved

    def is_over(self) -> bool:
        """Whether a signal has come to this process, or to another one."""
        if code := highest(self.exit_code):  # else nothing is set, for a signal may have come meanwhile
            self.exit_code = code
        return code > 0

    def stop(self, trainer: Trainer, epoch: int) -> None:
        """Say so and leave.

        Args:
            epoch: That the last step was of, from 1.
        """
        where = "nothing is saved"
        if isinstance(trainer.checkpoint_callback, BestAndLast):
            where = f"saved in {trainer.checkpoint_callback.last}; the same command carries on from there"
        log.warning(f"interrupted after step {trainer.global_step}, in epoch {max(1, epoch)}; {where}")
        raise SystemExit(self.exit_code)
