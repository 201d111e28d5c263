"""The images that a finished run is scored on: its own test images, or others of the same classes."""

import logging

import torch
from torch import Tensor

from pytorch_intro.build import build
from pytorch_intro.check import check_nodes
from pytorch_intro.datamodule import DataModule
from pytorch_intro.errors import UserError
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.normalize import Normalize

log = logging.getLogger(__name__)


def recorded_data(run: FinishedRun) -> DataModule:
    """The data that the run was trained with, divided as it was then, normalised with its constants.

    Raises:
        UserError: if it cannot be had, or is not what it was.
    """
    check_nodes(run.config.data, "data", {})
    inputs = run.inputs
    datamodule: DataModule = build(run.config.data, "data", mean=inputs["mean"], std=inputs["std"])
    datamodule.setup("fit")
    datamodule.setup("test")
    for name, now in (("image_shape", list(datamodule.image_shape)), ("classes", datamodule.classes)):
        if now != inputs[name]:
            raise UserError(
                f"data: its {name} was {inputs[name]} when {run.path} was trained, and is {now} by now; give the data "
                "of that time by data.root=DIR, or choose other data to score by data=…"
            )
    if datamodule.test_set is None:
        raise UserError("data: the run kept no test images (data.test_fraction=0); choose others by data=…")
    return datamodule


def other_data(run: FinishedRun) -> DataModule:
    """Other images of the run's classes, made such as the network takes; all of them if they have no test of their own.

    Raises:
        UserError: if they cannot be had, or are of other classes.
    """
    check_nodes(run.config.data, "data", {})
    inputs = run.inputs
    channels, *size = inputs["image_shape"]
    same = {name: inputs[name] for name in ("mean", "std", "resize")} | {"image_size": size}
    datamodule: DataModule = build(run.config.data, "data", **same)
    source = datamodule.source
    source.reader.channels = channels
    part = source.part("test") if source.has("test") else source.part("train")
    if part is None:
        raise UserError(f"data: {source.name} has no images to score")
    images, known = part.dataset, inputs["classes"]
    if others := [name for name in images.classes if name not in known]:
        raise UserError(
            f"data: {source.name} has images of {', '.join(others)}, and {run.path} tells {', '.join(known)} apart; "
            "give images in folders of these names, or map the names by data.target_transform"
        )
    images.targets = torch.tensor([known.index(name) for name in images.classes])[images.targets]
    images.classes = known
    which = "its test images" if source.has("test") else "all its images, for it has no test of its own"
    log.info("data: %s, %s: %s", source.name, which, f"{len(part):,}")
    datamodule.train_set = datamodule.test_set = part  # so that setup, which Lightning calls, finds all there
    datamodule.image_shape, datamodule.classes = images.image_shape, known
    datamodule.normalize = Normalize(inputs["mean"], inputs["std"])
    return datamodule


def some_images(datamodule: DataModule, count: int) -> Tensor:
    """Up to so many of the test images, evenly spread, (N, C, H, W) uint8."""
    part = datamodule.test_set
    assert part is not None
    rows = torch.linspace(0, len(part) - 1, min(count, len(part))).long()
    return part.__getitems__(rows)[0]
