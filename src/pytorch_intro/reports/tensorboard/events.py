"""Functions that write TensorBoard events."""

import re
from collections.abc import Sequence
from io import BytesIO

import torch
from lightning import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pytorch_intro.analysis.class_metrics import NUM_THRESHOLDS
from pytorch_intro.analysis.names import to_display_names
from pytorch_intro.reports.tensorboard.graph import network_graph
from pytorch_intro.runs.config_record import recorded_command
from pytorch_intro.runs.folder import RunFolder

MAX_CHARTS = 100  # with more classes, no class has its own curve
SPRITE_SIZE = 64  # maximum side of an image in the projector, in pixels


def tensorboard_loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    """Return the trainer's TensorBoard loggers; none on ranks other than 0."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]


def add_texts(writer: SummaryWriter, run: RunFolder) -> None:
    """Log the command and the config, each as a block of Markdown."""
    if not run.config_file.exists():  # in a benchmark
        return
    for tag, text in (("command", recorded_command(run.path)), ("config", run.config_file.read_text())):
        writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))


def add_layout(writer: SummaryWriter, classes: Sequence[str], further: Sequence[str] = ()) -> None:
    """Log the charts of the page CUSTOM SCALARS, which show several curves each; `further` are names of metrics."""
    charts = {
        "loss": ["train/loss_step", "train/loss", "train/cross_entropy", "val/loss"],
        "accuracy": ["train/accuracy", "val/accuracy"],
        **{name: [f"val/{name}"] for name in further},
        "learning rate": ["lr"],
        "seconds per epoch": ["epoch_seconds"],
        "images per second": ["images_per_second"],
    }
    layout = {"training": {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in charts.items()}}
    if len(classes) <= MAX_CHARTS:
        layout["classes"] = {"validation accuracy of each class": ["Multiline", ["^val_class_accuracy/"]]}
    writer.add_custom_scalars(layout)


def add_graph(writer: SummaryWriter, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Log the graph of the network for one black image."""
    weights, training = next(network.parameters()), network.training
    graph = network_graph(network.eval(), weights.new_zeros(1, *image_shape))
    network.train(training)
    assert writer.file_writer
    writer.file_writer.add_event(Event(graph_def=graph.SerializeToString()))


def add_image(writer: SummaryWriter, tag: str, image: Image.Image, step: int) -> None:
    """Log an RGB image. SummaryWriter.add_image compresses more, and takes more than twice as long."""
    png = BytesIO()
    image.save(png, format="PNG", compress_level=1)
    summary = Summary.Image(height=image.height, width=image.width, colorspace=3, encoded_image_string=png.getvalue())
    assert writer.file_writer
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=summary)]), step)


def add_class_accuracies(writer: SummaryWriter, matrix: Tensor, classes: Sequence[str], step: int) -> None:
    """Log the accuracy of each class from a confusion matrix, (num_classes, num_classes), up to MAX_CHARTS classes."""
    if len(classes) > MAX_CHARTS:
        return
    support = matrix.sum(dim=1)
    shares = (matrix.diagonal() / support.clamp(1)).tolist()
    for name, share, images in zip(to_tags(classes), shares, support.tolist(), strict=True):
        if images:
            writer.add_scalar(f"val_class_accuracy/{name}", share, step)


def add_pr_curves(writer: SummaryWriter, positives: Tensor, classes: Sequence[str], step: int) -> None:
    """Log the precision-recall curve of each class against all others, for up to MAX_CHARTS classes.

    Args:
        positives: (num_classes, 2, NUM_THRESHOLDS) int64, as PerClassMetrics.compute returns them.
    """
    if len(classes) > MAX_CHARTS:
        return
    for name, (false, true) in zip(to_tags(classes), positives, strict=True):
        writer.add_pr_curve_raw(
            f"test_pr/{name}",
            true_positive_counts=true,
            false_positive_counts=false,
            true_negative_counts=false[0] - false,
            false_negative_counts=true[0] - true,
            precision=true / (true + false).clamp(1),
            recall=true / true[0].clamp(1),
            global_step=step,
            num_thresholds=NUM_THRESHOLDS,
        )


def to_sprites(images: Tensor) -> Tensor:
    """Convert images (N, C, H, W) uint8 for the projector: float in [0, 1], one or three channels, small."""
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    height, width = images.shape[-2:]
    scale = min(1.0, SPRITE_SIZE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    return torch.nn.functional.interpolate(images.float() / 255, size, mode="area")


def to_tags(classes: Sequence[str]) -> list[str]:
    """Return the names of the classes, unique and with characters that are valid in tags."""
    return to_display_names([re.sub(r"[^\w.-]+", "_", name) for name in classes])
