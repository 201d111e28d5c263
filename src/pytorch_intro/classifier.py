"""The LightningModule: a network, its loss, its metrics, its optimizer."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from lightning import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from pytorch_intro.dataset import Batch


class Classifier(LightningModule):
    """Trains a network that turns images (N, C, H, W) float into logits (N, num_classes).

    Loss and accuracy gather on the device and are read once an epoch, so that no step waits for the device.
    train/loss includes the label smoothing that is trained with; val/loss and test/loss are plain cross-entropy.

    Args:
        network: Images to logits.
        num_classes: Number of logits.
        optimizer: Makes the optimizer of the network's parameters.
        scheduler: Makes the schedule of an optimizer and a total number of steps, math.inf for a training without end.
        label_smoothing: Share of each training label that is spread over all classes (Szegedy et al. 2016).
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, float], LRScheduler],
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        # Plain values only: a checkpoint that holds modules or functions does not load with weights_only=True.
        self.save_hyperparameters("num_classes", "label_smoothing")
        self.network = network.to(memory_format=torch.channels_last)  # about twice as fast for convolutions
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        # Without argument checks, each of which would wait for the device.
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float to logits (N, num_classes)."""
        return self.network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.log_epoch("train", loss, logits, targets, self.train_accuracy)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        logits = self(images)
        self.log_epoch("val", cross_entropy(logits, targets), logits, targets, self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        logits = self(images)
        self.log_epoch("test", cross_entropy(logits, targets), logits, targets, self.test_accuracy)

    def log_epoch(
        self, stage: str, loss: Tensor, logits: Tensor, targets: Tensor, accuracy: MulticlassAccuracy
    ) -> None:
        """Add a batch to the epoch's <stage>/loss and <stage>/accuracy.

        Args:
            loss: () mean over the batch.
            logits: (N, num_classes).
            targets: (N,) int64.
        """
        accuracy.update(logits, targets)
        metrics: dict[str, Metric | Tensor | float] = {f"{stage}/loss": loss.detach(), f"{stage}/accuracy": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network.parameters())
        schedule = self.scheduler(optimizer, max(1, self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the validation's figures beside the weights that they were measured with."""
        metrics = self.trainer.callback_metrics
        checkpoint["metrics"] = {name: value.item() for name, value in metrics.items() if name.startswith("val/")}
