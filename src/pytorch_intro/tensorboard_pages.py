"""What TensorBoard shows of a run besides its curves: pictures, the network, the classes, the images as points."""

import math
from typing import Annotated, Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pytorch_intro import summaries
from pytorch_intro.classifier import Classifier
from pytorch_intro.dataset import Batch
from pytorch_intro.inspection import evenly_spaced_indices
from pytorch_intro.report import confusion_of, data_of, mistakes_of, sheet_of
from pytorch_intro.run_folder import RunFolder

SHOWN = 16  # training images
# TensorBoard shows pictures small: so few columns, and such letters, that captions can be read without a click.
SHEET: dict[str, int] = {"columns": 4, "letters": 17}
DPI = 100


class TensorBoardPages(Callback):
    """Shows, where there is a TensorBoard logger, what curves do not tell.

    At the start: train and val in one chart (CUSTOM SCALARS), the network (GRAPHS), config and command (TEXT). After
    the first epoch: training images as they are, and as the network saw them (IMAGES). After validations: each class's
    accuracy, the confusion matrix. After the test: the most confident mistakes, precision over recall (PR CURVES),
    and test images as points, near each other where the network finds them alike (PROJECTOR).

    Args:
        run_dir: The run's folder.
        confusion_every_n_epochs: How often the confusion matrix is drawn, besides the last epoch's; None: so that there
            are four, or for every tenth epoch where the training has no end.
        embeddings: How many test images are points, at most; none of a network without a linear layer.
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
        self.seen: Batch | None = None  # the first batch, as the network saw it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:  # a run that is carried on has shown these
            return
        data = data_of(trainer)
        for writer in writers_of(trainer):
            summaries.add_texts(writer, self.run)
            summaries.add_layout(writer, data.classes)
            if has_all_of_network(trainer):
                summaries.add_graph(writer, classifier_in(pl_module).network, data.image_shape)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if trainer.current_epoch == 0 and self.seen is None:
            images, targets = batch
            self.seen = images[:SHOWN].clone(), targets[:SHOWN].clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seen is None:
            return
        data = data_of(trainer)
        some = data.train_set.__getitems__(evenly_spaced_indices(len(data.train_set), SHOWN))
        seen = data.normalize.denormalize(self.seen[0]), self.seen[1]
        for writer in writers_of(trainer):
            for tag, (images, targets), title in (
                ("train/images", some, "training images"),
                ("train/augmented", seen, "a batch, as the network sees it"),
            ):
                sheet = sheet_of(images, targets, data.classes, title, **SHEET)
                summaries.add_picture(writer, tag, sheet, trainer.global_step - 1)  # as Lightning counts
        self.seen = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        measured = classifier_in(pl_module).measured
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not measured:
            return
        step, epoch = trainer.global_step - 1, trainer.current_epoch + 1
        for writer in writers_of(trainer):
            summaries.add_accuracies(writer, measured["matrix"].cpu(), data_of(trainer).classes, step)
            if epoch % self.confusion_interval(trainer) == 0 or epoch == trainer.max_epochs:
                figure = confusion_of(measured["matrix"], data_of(trainer).classes, f"epoch {epoch}, val", dpi=DPI)
                summaries.add_picture(writer, "val/confusion", figure, step)

    def confusion_interval(self, trainer: Trainer) -> int:
        epochs = trainer.max_epochs or 0
        return self.confusion_every_n_epochs or (math.ceil(epochs / 4) if epochs > 0 else 10)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        classifier, data, step = classifier_in(pl_module), data_of(trainer), trainer.global_step
        for writer in writers_of(trainer):
            if measured := classifier.measured:
                summaries.add_pr_curves(writer, measured["histograms"].cpu(), data.classes, step)
            if classifier.mistaken:
                summaries.add_picture(writer, "test/mistakes", mistakes_of(classifier.mistaken, data, **SHEET), step)
            if embeddings := self.embedded(trainer, classifier):
                writer.add_embedding(**embeddings, tag="test", global_step=step)

    def embedded(self, trainer: Trainer, classifier: Classifier) -> dict[str, Any]:
        """Test images, evenly spread, as the last linear layer gets them; what SummaryWriter.add_embedding takes.

        A batch at a time, as many as one device gets in a step. Empty where there is no linear layer.
        """
        data, layers = data_of(trainer), classifier.network.modules()
        last = [layer for layer in layers if isinstance(layer, nn.Linear)][-1:]
        if not (self.embeddings and data.test_set and last and has_all_of_network(trainer)):
            return {}
        features: list[Tensor] = []
        sprites: list[Tensor] = []
        told: list[tuple[str, str, str]] = []
        rows = torch.tensor(evenly_spaced_indices(len(data.test_set), self.embeddings))
        hook = last[0].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].float().cpu().flatten(1)))
        with hook, torch.no_grad(), trainer.precision_plugin.forward_context():
            for some in rows.split(max(1, data.batch_size // trainer.world_size)):
                images, targets = data.test_set.__getitems__(some)
                batch = data.on_after_batch_transfer((images.to(trainer.strategy.root_device), targets), 0)
                # Not by a call, which would compile a compiled network once more, and call no hooks in it.
                predicted = classifier.network.forward(batch[0]).argmax(dim=1)
                for true, guess in zip(targets.tolist(), predicted.tolist(), strict=True):
                    told.append((data.classes[true], data.classes[guess], "right" if true == guess else "wrong"))
                sprites.append(summaries.as_sprites(images.cpu()))
        return {
            "mat": torch.cat(features),
            "metadata": told,
            "metadata_header": ["true class", "predicted class", "right or wrong"],
            "label_img": torch.cat(sprites),
        }


def writers_of(trainer: Trainer) -> list[SummaryWriter]:
    """Those of TensorBoard's loggers; none in processes other than the first."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return [logger.experiment for logger in loggers] if trainer.is_global_zero else []


def has_all_of_network(trainer: Trainer) -> bool:
    """Whether the first process can use the network without the others."""
    return not isinstance(trainer.strategy, FSDPStrategy)


def classifier_in(module: LightningModule) -> Classifier:
    assert isinstance(module, Classifier)
    return module
