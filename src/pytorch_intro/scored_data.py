"""The images that a finished run is scored on: its own test images, or others of the same classes."""

import logging
from typing import Any

import torch
from torch import Tensor

from pytorch_intro.check import check_nodes
from pytorch_intro.datamodule import DataModule
from pytorch_intro.errors import UserError
from pytorch_intro.finished_run import FinishedRun
from pytorch_intro.inspection import evenly_spaced_indices
from pytorch_intro.instantiate import instantiate

log = logging.getLogger(__name__)


def recorded_data(run: FinishedRun) -> DataModule:
    """The data that the run was trained with, divided as it was then, normalised with its constants.

    Raises:
        UserError: if it cannot be had, or is not what it was.
    """
    inputs = run.inputs
    datamodule = built(run, mean=inputs["mean"], std=inputs["std"])
    datamodule.setup("fit")
    datamodule.setup("test")
    now = datamodule.input_spec()
    for name, what in (("image_shape", "shape"), ("classes", "classes"), ("trained_on", "training images")):
        if now[name] != inputs[name]:
            raise UserError(
                f"data: the {what} are not those that {run.path} was trained with ({now[name]}, {inputs[name]}), so "
                "that its test images may not be either; give the data of that time by data.root=DIR, or score other "
                "images by data=…"
            )
    if datamodule.test_set is None:
        raise UserError("data: the run kept no test images (data.test_fraction=0); choose others by data=…")
    return datamodule


def other_data(run: FinishedRun) -> DataModule:
    """Other images of the run's classes, made such as the network takes; all of them if they have no test of their own.

    Raises:
        UserError: if they cannot be had, or are of other classes.
    """
    inputs = run.inputs
    channels, *size = inputs["image_shape"]
    datamodule = built(run, **{name: inputs[name] for name in ("mean", "std", "resize")}, image_size=size)
    source = datamodule.source
    source.reader.channels = channels
    part = source.split("test") if source.has_split("test") else source.split("train")
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
    which = "of its test" if source.has_split("test") else "for it has no test of its own"
    log.info("data: %s, %s images, %s", source.name, f"{len(part):,}", which)
    datamodule.set_test_set(part)
    return datamodule


def built(run: FinishedRun, **inputs: Any) -> DataModule:
    """The run's data, with those values that the network was trained on in the place of its settings."""
    check_nodes(run.config.data, "data", {})
    datamodule: DataModule = instantiate(run.config.data, "data", **inputs)
    return datamodule


def images_to_compare(run: FinishedRun, count: int, is_other: bool) -> tuple[Tensor, str]:
    """Up to so many test images, evenly spaced, or random ones where the run's own are not at hand; and which of these.

    Args:
        is_other: Whether other data than the run's was chosen, which has to be there.

    Returns:
        (N, C, H, W) uint8, and what they are called.
    """
    try:
        part = (other_data(run) if is_other else recorded_data(run)).test_set
        assert part is not None
    except UserError as error:
        if is_other:
            raise
        log.warning("compared on random images, for the run's test images are not at hand: %s", error)
        shape = (count, *run.inputs["image_shape"])
        generator = torch.Generator().manual_seed(0)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator), "random images"
    return part.__getitems__(evenly_spaced_indices(len(part), count))[0], "test images"
