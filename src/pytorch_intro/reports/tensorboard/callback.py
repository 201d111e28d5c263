"""TensorBoard pages besides scalars: images, network graph, per-class metrics, embeddings."""

import math
from typing import Annotated, Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pytorch_intro.analysis.class_metrics import find_class_metrics
from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.data.datamodule import datamodule_of
from pytorch_intro.data.dataset import Batch, evenly_spaced_indices
from pytorch_intro.reports.tensorboard import events
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.runs.folder import RunFolder
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.monitors import chosen_metrics

# Matplotlib is imported when there is something to plot: that takes a quarter of a second.

NUM_SAMPLES = 16  # training images
# TensorBoard scales images down: few columns and large letters keep the captions readable.
GRID: dict[str, int] = {"columns": 4, "font_size": 17}
DPI = 100


class TensorBoardPages(Callback):
    """Logs more than scalars to the TensorBoard logger, if the run has one.

    At the start: train and val in one chart (CUSTOM SCALARS), the network (GRAPHS), config and command (TEXT). After
    the first epoch: training images, original and augmented (IMAGES). After a validation: the accuracy of each class
    and the confusion matrix. After the test: the most confident errors, precision-recall curves (PR CURVES) and
    embeddings of test images (PROJECTOR). Per-class metrics and errors need callbacks.class_metrics.

    Args:
        run_dir: Run folder.
        confusion_every_n_epochs: Epochs between two confusion matrices; the last epoch always has one. None: about four
            per run, or one every ten epochs without max_epochs.
        embeddings: Maximum number of test images in the projector, for a network with a linear layer.
    """

    def __init__(
        self,
        run_dir: str,
        confusion_every_n_epochs: PositiveInt | None = None,
        embeddings: Annotated[NonNegativeInt, Field(le=10_000)] = 1000,
    ) -> None:
        self.run = RunFolder(run_dir)
        self.confusion_every_n_epochs = confusion_every_n_epochs
        self.embeddings = embeddings
        self.first_batch: Batch | None = None  # as the network saw it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:  # a resumed run has already logged these
            return
        data = datamodule_of(trainer)
        has_config = self.run.config_file.exists()  # not in a benchmark
        further = list(chosen_metrics(load_config(self.run.config_file))) if has_config else []
        for writer in writers_of(trainer):
            events.add_texts(writer, self.run)
            events.add_layout(writer, data.classes, further)
            if network := full_network(trainer, pl_module):
                events.add_graph(writer, network, data.image_shape)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        is_images = images.ndim == 4  # not the features of a frozen network
        if trainer.current_epoch == 0 and self.first_batch is None and is_images:
            self.first_batch = images[:NUM_SAMPLES].clone(), targets[:NUM_SAMPLES].clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.first_batch is None:
            return
        data, (augmented, labels) = datamodule_of(trainer), self.first_batch
        original = data.train_set.__getitems__(evenly_spaced_indices(len(data.train_set), NUM_SAMPLES))
        grids = {
            "train/images": (*original, "training images"),
            "train/augmented": (data.normalize.denormalize(augmented), labels, "a batch, as the network sees it"),
        }
        for writer in writers_of(trainer):
            from pytorch_intro.analysis.plots import plot_samples

            for tag, (images, targets, title) in grids.items():
                grid = plot_samples(images, targets, data.classes, title, **GRID)
                events.add_image(writer, tag, grid, trainer.global_step - 1)  # as Lightning counts
        self.first_batch = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = find_class_metrics(trainer).val
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not metrics:
            return
        matrix, classes = metrics["confusion_matrix"], datamodule_of(trainer).classes
        step, epoch, max_epochs = trainer.global_step - 1, trainer.current_epoch + 1, trainer.max_epochs or -1
        interval = self.confusion_every_n_epochs or (math.ceil(max_epochs / 4) if max_epochs > 0 else 10)
        for writer in writers_of(trainer):
            events.add_class_accuracies(writer, matrix.cpu(), classes, step)
            if epoch % interval == 0 or epoch == max_epochs:
                from pytorch_intro.analysis.plots import plot_confusion

                figure = plot_confusion(matrix, classes, f"epoch {epoch}, val", dpi=DPI)
                events.add_image(writer, "val/confusion", figure, step)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics, data, step = find_class_metrics(trainer), datamodule_of(trainer), trainer.global_step
        for writer in writers_of(trainer):
            if metrics.test:
                events.add_pr_curves(writer, metrics.test["positives"].cpu(), data.classes, step)
            if metrics.errors:
                from pytorch_intro.analysis.plots import plot_errors

                events.add_image(writer, "test/mistakes", plot_errors(metrics.errors, data, **GRID), step)
            if embeddings := self.compute_embeddings(trainer, pl_module):
                writer.add_embedding(**embeddings, tag="test", global_step=step)

    def compute_embeddings(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the inputs of the last linear layer for evenly spaced test images, as arguments of add_embedding.

        Batches have the size that one device has in training. Empty without a linear layer.
        """
        data, network = datamodule_of(trainer), full_network(trainer, pl_module)
        last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1:] if network else []
        if not (network and self.embeddings and data.test_set and last):
            return {}
        features: list[Tensor] = []
        sprites: list[Tensor] = []
        metadata: list[tuple[str, str, str]] = []
        names = to_display_names(data.classes)
        rows = torch.tensor(evenly_spaced_indices(len(data.test_set), self.embeddings))
        hook = last[0].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].float().cpu().flatten(1)))
        with hook, torch.no_grad(), trainer.precision_plugin.forward_context():
            for indices in rows.split(max(1, data.batch_size // trainer.world_size)):
                images, targets = data.test_set.__getitems__(indices)
                batch = data.on_after_batch_transfer((images.to(trainer.strategy.root_device), targets), 0)
                # network(…) would call the compiled network, which skips the hook.
                predicted = network.forward(batch[0]).argmax(dim=1)
                for true, guess in zip(targets.tolist(), predicted.tolist(), strict=True):
                    metadata.append((names[true], names[guess], "right" if true == guess else "wrong"))
                sprites.append(events.to_sprites(images.cpu()))
        return {
            "mat": torch.cat(features),
            "metadata": metadata,
            "metadata_header": ["true class", "predicted class", "right or wrong"],
            "label_img": torch.cat(sprites),
        }


def writers_of(trainer: Trainer) -> list[SummaryWriter]:
    return [logger.experiment for logger in events.tensorboard_loggers(trainer)]


def full_network(trainer: Trainer, module: LightningModule) -> nn.Module | None:
    """Return the network; None with FSDP, where rank 0 cannot use it without the other ranks."""
    assert isinstance(module, Classifier)
    return None if isinstance(trainer.strategy, FSDPStrategy) else module.network
