"""Stop on NaN/inf before a bad checkpoint can overwrite a good one."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from pytorch_intro.common.errors import RunError
from pytorch_intro.training.checkpoint import BestLastCheckpoint

NO_BAD_STEP = torch.iinfo(torch.int64).max


class TerminateOnNaN(Callback):
    """Stops training when a loss or a weight is NaN or infinite.

    On the CPU the loss of every step is checked. On other devices that would make every step wait for the device: the
    first step with such a loss is stored there, and read at the end of an epoch and before a checkpoint is saved.
    """

    def __init__(self) -> None:
        self.first_bad: Tensor | None = None  # () int64 on the device: first step with a bad loss, or NO_BAD_STEP

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"]
        bad = torch.where(loss.isfinite(), NO_BAD_STEP, trainer.global_step)
        self.first_bad = bad if self.first_bad is None else torch.minimum(self.first_bad, bad)
        if loss.device.type == "cpu":
            self.raise_if_diverged(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.raise_if_diverged(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn == TrainerFn.FITTING and loss is not None and not loss.isfinite():
            self.stop(trainer, "val/loss", trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.raise_if_diverged(trainer)
        if not torch.stack([value.isfinite().all() for value in pl_module.parameters()]).all():
            self.stop(trainer, "weights", trainer.global_step)

    def raise_if_diverged(self, trainer: Trainer) -> None:
        if self.first_bad is not None and (step := int(self.first_bad)) != NO_BAD_STEP:
            self.stop(trainer, "train/loss", step)

    def stop(self, trainer: Trainer, bad: str, step: int) -> None:
        learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        checkpoint = trainer.checkpoint_callback
        saved = "no checkpoint was saved yet"
        if isinstance(checkpoint, BestLastCheckpoint) and checkpoint.last.exists():
            saved = f"the last checkpoint is {checkpoint.last}"
        raise RunError(
            f"{bad}: NaN or inf at step {step} (lr={learning_rate:.3g}), {saved}; under a new name=NAME, try a smaller "
            "optimizer.lr, trainer.gradient_clip_val=1, or trainer.precision=32-true"
        )
