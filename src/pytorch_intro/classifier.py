"""The LightningModule: a network, its loss, its metrics, its optimizer."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pytorch_intro.dataset import Batch
from pytorch_intro.epoch_metrics import EpochMetrics
from pytorch_intro.mistakes import ConfidentMistakes
from pytorch_intro.scores import MOST_CLASSES, ClassScores, confused_pairs, scores_of


class Classifier(LightningModule):
    """Trains a network that turns images (N, C, H, W) float into logits (N, num_classes).

    Loss and accuracy gather on the device and are read once an epoch; no step waits for them.
    train/loss includes the label smoothing that is trained with; val/loss and test/loss are plain cross-entropy.

    Args:
        network: Images to logits.
        num_classes: Number of logits.
        optimizer: Makes the optimizer of the network's parameters.
        scheduler: Makes the schedule of an optimizer and a total number of steps, math.inf for a training without end.
        label_smoothing: Share of each training label that is spread over all classes (Szegedy et al. 2016).
        mirror: Except for training, average the logits of each image and of its mirror image.
        shift: Except for training, average the logits of each image shifted by up to so many pixels each way.
        compile: Compile the network by torch.compile, in place, with its default mode or the one that is named;
            reduce-overhead makes CUDA graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, float], LRScheduler],
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        mirror: bool | None = False,
        shift: Annotated[int, Field(ge=0, le=8)] = 0,
        compile: bool | Literal["reduce-overhead", "max-autotune"] = False,
    ) -> None:
        super().__init__()
        # Plain values only: a checkpoint that holds modules or functions does not load with weights_only=True.
        self.save_hyperparameters("num_classes", "label_smoothing", "mirror", "shift")
        self.network = network.to(memory_format=torch.channels_last)  # about twice as fast for convolutions
        if compile:  # in place: the keys of the weights stay as they are
            self.network.compile(mode=None if compile is True else compile)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.label_smoothing = label_smoothing
        self.mirror = mirror
        self.shift = shift
        self.train_metrics = EpochMetrics()
        self.val_metrics = EpochMetrics()
        self.test_metrics = EpochMetrics()
        self.one_view_metrics = EpochMetrics()
        self.class_scores = ClassScores(num_classes) if num_classes <= MOST_CLASSES else None
        self.mistakes = ConfidentMistakes()
        # Of each class and of mistakes, by the last validation or test; see scores.py and mistakes.py.
        self.measured: dict[str, Tensor] | None = None
        self.mistaken: dict[str, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float to logits (N, num_classes)."""
        return self.network(images) if self.training else self.views(images).mean(dim=0)

    def views(self, images: Tensor) -> Tensor:
        """The logits of each image, and of the other views of it that count: (views, N, num_classes) float32.

        The image as it is comes first. A shifted view repeats the pixels of the border.
        """
        height, width = images.shape[-2:]
        offsets = sorted(range(2 * self.shift + 1), key=lambda offset: abs(offset - self.shift))
        padded = pad(images, [self.shift] * 4, mode="replicate")
        views = [padded[..., top : top + height, left : left + width] for top in offsets for left in offsets]
        if self.mirror:
            views = [view for shifted in views for view in (shifted, shifted.flip(-1))]
        # In float32 before the mean, which bfloat16 would round once more.
        return torch.stack([self.network(view).float() for view in views])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        if targets.ndim == 2:  # mixed images count as of the class that has the largest share in them
            targets = targets.argmax(dim=1)
        self.train_metrics.update(loss.detach(), logits.detach(), targets)
        if self.trainer.is_last_batch:  # not at the epoch's end, which callbacks see first
            self.log_epoch("train", self.train_metrics)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        logits = self(images)
        add(self.val_metrics, logits, targets)
        if self.class_scores:
            self.class_scores.update(logits, targets)

    def on_validation_epoch_end(self) -> None:
        self.log_epoch("val", self.val_metrics)
        self.measure()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        views = self.views(images)
        logits = views.mean(dim=0)
        add(self.test_metrics, logits, targets)
        add(self.one_view_metrics, views[0], targets)
        if self.class_scores:
            self.class_scores.update(logits, targets)
        self.mistakes.update(images, logits, targets)

    def on_test_epoch_end(self) -> None:
        self.log_epoch("test", self.test_metrics)
        if self.mirror or self.shift:
            self.log("test/accuracy_one_view", self.one_view_metrics.compute()["accuracy"], sync_dist=True)
        self.one_view_metrics.reset()
        self.measure()
        self.mistaken = self.mistakes.compute()
        self.mistakes.reset()

    def measure(self) -> None:
        """Sum up the class scores, where all processes and their devices are still at hand."""
        if self.class_scores:
            self.measured = self.class_scores.compute()
            self.class_scores.reset()

    def confused(self, classes: Sequence[str]) -> list[str]:
        """The three pairs of classes that the last test mixed up most often, a line each."""
        return confused_pairs(scores_of(self.measured, classes), 3) if self.measured else []

    def log_epoch(self, stage: str, metrics: EpochMetrics) -> None:
        """Log <stage>/loss and <stage>/accuracy of the epoch, and reset. EpochLogger passes train/… to the loggers."""
        values = {f"{stage}/{name}": value for name, value in metrics.compute().items()}
        self.log_dict(values, on_step=False, on_epoch=True, sync_dist=True, logger=False if stage == "train" else None)
        metrics.reset()

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network.parameters())
        schedule = self.scheduler(optimizer, max(1, self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the epoch's figures beside the weights that they were measured with."""
        checkpoint["metrics"] = {name: value.item() for name, value in self.trainer.callback_metrics.items()}
        checkpoint["train_metrics"] = self.train_metrics.sums_of_processes()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of an epoch that was interrupted."""
        if self.trainer.training:
            self.train_metrics.go_on(checkpoint["train_metrics"], self.trainer.global_rank, self.trainer.world_size)


def add(metrics: EpochMetrics, logits: Tensor, targets: Tensor) -> None:
    """Add a batch's cross-entropy and accuracy to the metrics."""
    metrics.update(cross_entropy(logits, targets), logits, targets)
