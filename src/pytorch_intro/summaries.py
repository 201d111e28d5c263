"""What is written into TensorBoard's event files, each by one function."""

import re
from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pytorch_intro.network_graph import network_graph
from pytorch_intro.recorded_config import recorded_command
from pytorch_intro.run_folder import RunFolder
from pytorch_intro.scores import THRESHOLDS, distinct

MOST_CHARTS = 100  # classes, beyond which none has a curve of its own
SPRITE = 64  # pixels a side of an image in the projector, at most


def add_texts(writer: SummaryWriter, run: RunFolder) -> None:
    """The command and the config, each as a block of Markdown."""
    if not run.config_file.exists():  # a benchmark's
        return
    texts = {"command": recorded_command(run.path), "config": run.config_file.read_text()}
    for tag, text in texts.items():
        writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()))


def add_layout(writer: SummaryWriter, classes: Sequence[str]) -> None:
    """Charts of several curves each, for the page CUSTOM SCALARS."""
    charts = {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["train/accuracy", "val/accuracy"],
        "learning rate": ["lr"],
        "seconds an epoch": ["epoch_seconds"],
        "images per second": ["images_per_second"],
    }
    layout = {"training": {name: ["Multiline", [f"^{tag}$" for tag in tags]] for name, tags in charts.items()}}
    if len(classes) <= MOST_CHARTS:
        layout["classes"] = {"accuracy of each class, validation": ["Multiline", ["^val_accuracy_of/"]]}
    writer.add_custom_scalars(layout)


def add_graph(writer: SummaryWriter, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """The network, by one black image."""
    parameter = next(network.parameters())
    training = network.training
    black = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    graph = network_graph(network.eval(), black)
    network.train(training)
    assert writer.file_writer
    writer.file_writer.add_event(Event(graph_def=graph.SerializeToString()))


def add_picture(writer: SummaryWriter, tag: str, picture: Image.Image, step: int) -> None:
    """An RGB picture. SummaryWriter.add_image takes more than twice as long, for it compresses as well as can be."""
    png = BytesIO()
    picture.save(png, format="PNG", compress_level=1)
    image = Summary.Image(height=picture.height, width=picture.width, colorspace=3, encoded_image_string=png.getvalue())
    assert writer.file_writer
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def add_accuracies(writer: SummaryWriter, matrix: Tensor, classes: Sequence[str], step: int) -> None:
    """The accuracy of each class, unless there are too many for a chart each.

    Args:
        matrix: (num_classes, num_classes) int64, rows are true classes.
    """
    if len(classes) > MOST_CHARTS:
        return
    support = matrix.sum(dim=1)
    shares = (matrix.diagonal() / support.clamp(1)).tolist()
    for name, share, images in zip(tags_of(classes), shares, support.tolist(), strict=True):
        if images:
            writer.add_scalar(f"val_accuracy_of/{name}", share, step)


def add_pr_curves(writer: SummaryWriter, histograms: Tensor, classes: Sequence[str], step: int) -> None:
    """Precision over recall for each class against all others, unless there are too many for a chart each.

    Args:
        histograms: (num_classes, 2, THRESHOLDS) int64, as ClassScores gives them.
    """
    if len(classes) > MOST_CHARTS:
        return
    for name, counts in zip(tags_of(classes), histograms, strict=True):
        false, true = positives(counts)
        writer.add_pr_curve_raw(
            f"test_pr/{name}",
            true_positive_counts=true,
            false_positive_counts=false,
            true_negative_counts=false[0] - false,
            false_negative_counts=true[0] - true,
            precision=true / (true + false).clamp(1),
            recall=true / true[0].clamp(1),
            global_step=step,
            num_thresholds=THRESHOLDS,
        )


def positives(counts: Tensor) -> Tensor:
    """How many images are at least as probable as each threshold.

    Args:
        counts: (2, THRESHOLDS) int64; of other classes and of the class itself, from probability 0 to 1.

    Returns:
        False and true positives, (2, THRESHOLDS) int64.
    """
    return counts.flip(-1).cumsum(-1).flip(-1)


def as_sprites(images: Tensor) -> Tensor:
    """Images (N, C, H, W) uint8 as the projector shows them: float in [0, 1], of one or three channels, small."""
    images = images if images.shape[1] in (1, 3) else images[:, :1]
    height, width = images.shape[-2:]
    scale = min(1.0, SPRITE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    return torch.nn.functional.interpolate(images.float() / 255, size, mode="area")


def tags_of(classes: Sequence[str]) -> list[str]:
    """The classes' names, distinct and of letters that tags may have."""
    return distinct([re.sub(r"[^\w.-]+", "_", name) for name in classes])
