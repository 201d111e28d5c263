"""Fit a temperature after each validation, and store it in the checkpoint with the weights that were validated."""

import logging
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from pytorch_intro.calibration.temperature import fit_temperature
from pytorch_intro.common.distributed import all_gather_object
from pytorch_intro.data.datamodule import datamodule_of
from pytorch_intro.data.dataset import Batch
from pytorch_intro.training.classifier import Classifier

log = logging.getLogger(__name__)

MAX_VALUES = 2**22  # logits that are kept of a validation, over all ranks: 17 MB


class TemperatureScaling(Callback):
    """Fits the temperature of the logits to each validation (Guo et al. 2017, arXiv:1706.04599).

    The validation computes the logits anyway; they are kept on the device until it ends. The temperature depends on
    them alone, so that a resumed run gets the same one. Every checkpoint has that of the last validation, as the float
    `temperature`. best.ckpt is saved right after its validation: its temperature is that of its weights.

    Of more than MAX_VALUES logits, every n-th image is used, the same for any number of ranks.

    Args:
        enabled: False: fit none. None: if there is validation data. True: likewise, but build_experiment requires it.
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = enabled is not False
        self.temperature = 1.0
        self.problem = ""
        self.every = 1  # n of every n-th image
        self.logits: list[Tensor] = []
        self.targets: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.enabled:
            return
        datamodule = datamodule_of(trainer)
        if datamodule.val_set is None or trainer.limit_val_batches == 0:
            self.enabled = False
            log.info("calibration: no temperature, since the run has no validation data")
            return
        images = len(datamodule.val_set)
        self.every = -(-images * len(datamodule.classes) // MAX_VALUES)
        if self.every > 1:
            log.info(f"calibration: the temperature is fitted to one of {self.every} of {images:,} validation images")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.logits, self.targets = [], []

    def is_active(self, trainer: Trainer) -> bool:
        return self.enabled and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self.is_active(trainer):
            return
        logits, targets = outputs["logits"], outputs["targets"]
        if self.every > 1:
            # The sampler gives each rank every world_size-th image of a batch.
            first = batch_idx * datamodule_of(trainer).batch_size + trainer.global_rank
            positions = first + trainer.world_size * torch.arange(len(targets), device=targets.device)
            chosen = positions % self.every == 0
            logits, targets = logits[chosen], targets[chosen]
        self.logits.append(logits.float())
        self.targets.append(targets)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.is_active(trainer):
            return
        # Only ranks with images have tensors.
        mine = (torch.cat(self.logits).cpu(), torch.cat(self.targets).cpu()) if self.logits else None
        self.logits, self.targets = [], []
        parts = [part for part in all_gather_object(mine) if part is not None]
        if not parts:
            return
        logits, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.temperature, problem = fit_temperature(logits, targets)
        if problem and problem != self.problem and trainer.is_global_zero:
            log.info(f"calibration: temperature {self.temperature:g} from {len(targets):,} images: {problem}")
        self.problem = problem

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        pl_module.temperature = self.temperature  # for a test of these weights, without a checkpoint

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.enabled:
            checkpoint["temperature"] = self.temperature

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.enabled and trainer.state.fn == TrainerFn.FITTING:
            self.temperature = checkpoint.get("temperature", 1.0)
