"""A training whose loss is no number any more is stopped, before a checkpoint of it takes the place of a good one."""

import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from pytorch_intro.checkpoint import BestAndLast
from pytorch_intro.errors import RunError

NEVER = torch.iinfo(torch.int64).max


class StopAtDivergence(Callback):
    """Stops when a loss or a weight is infinite or no number.

    On cpu each step's loss is looked at. Elsewhere that would let each step wait for the device: the first step with
    such a loss is kept there, and is read when an epoch ends or a checkpoint is written.

    Raises:
        RunError: with the step, the learning rate and what to try.
    """

    def __init__(self) -> None:
        self.first_bad: Tensor | None = None  # () int64 on the device: the step, or a number that no step has

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"]
        if loss.device.type == "cpu":
            if not math.isfinite(loss.item()):
                self.stop(trainer, f"train/loss is {loss.item()}", trainer.global_step)
            return
        bad = torch.where(loss.isfinite(), NEVER, trainer.global_step)
        self.first_bad = bad if self.first_bad is None else torch.minimum(self.first_bad, bad)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn == TrainerFn.FITTING and loss is not None and not loss.isfinite():
            self.stop(trainer, f"val/loss is {loss.item()}", trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Before it is written."""
        self.look(trainer)
        with torch.no_grad():
            are_finite = torch.stack([value.isfinite().all() for value in pl_module.parameters()]).all()
        if not are_finite:
            self.stop(trainer, "a weight is infinite or no number", trainer.global_step)

    def look(self, trainer: Trainer) -> None:
        if self.first_bad is not None and (step := int(self.first_bad)) != NEVER:
            self.stop(trainer, "train/loss is infinite or no number", step)

    def stop(self, trainer: Trainer, what: str, step: int) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        checkpoint = trainer.checkpoint_callback
        last = checkpoint.last if isinstance(checkpoint, BestAndLast) and checkpoint.last.exists() else None
        kept = f"the last checkpoint before is {last}" if last else "nothing had been saved before"
        raise RunError(
            f"{what} after step {step}, at a learning rate of {rate:.3g}: try a smaller optimizer.lr, "
            f"trainer.gradient_clip_val=1, or trainer.precision=32-true, under another name; {kept}"
        )
