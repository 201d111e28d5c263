"""Test data for a finished run: its original test images, or external images of the same classes."""

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.validate import check_config
from pytorch_intro.data.changes import describe_change
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import ImageSubset, evenly_spaced_indices
from pytorch_intro.data.duplicates import subset_hashes
from pytorch_intro.data.normalize import Normalize
from pytorch_intro.data.resize import CenterCrop
from pytorch_intro.inference.finished_run import FinishedRun

log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 300  # training images that set the ranges of 8-bit integers


def original_test_data(run: FinishedRun) -> DataModule:
    """Return the run's data as original_data does; raise a UserError if it has no test images."""
    datamodule = original_data(run)
    if datamodule.test_set is None:
        raise UserError("data: the run has no test images (data.test_fraction=0); choose other data with data=CHOICE")
    return datamodule


def original_data(run: FinishedRun) -> DataModule:
    """Return the run's data with its original split and normalization; raise a UserError if it has changed."""
    inputs = run.inputs
    # Settings that are null in the config may have come from the network's weights.
    resolved = {name: value for name, value in inputs["arguments"].items() if run.config.data.get(name) is None}
    datamodule = build_datamodule(run, mean=inputs["mean"], std=inputs["std"], **resolved)
    datamodule.setup("fit")
    datamodule.setup("test")
    if change := describe_change(inputs, datamodule.hparams):
        raise UserError(
            f"data: {change} since {run.path} was trained, so the test images may have changed too; use the original "
            "data (data.root=DIR), or choose other data (data=CHOICE)"
        )
    return datamodule


def data_for_threshold(run: FinishedRun) -> DataModule | None:
    """Return the run's data; None, with a warning, if it is not available."""
    try:
        return original_data(run)
    except UserError as error:
        log.warning("threshold: the validation images of the run are not available: %s", error)
        return None


def count_images_of_run(run: FinishedRun, external: DataModule, own: DataModule | None = None) -> dict[str, int]:
    """Return how many of the external images the run was trained or validated on, by their pixels; {} if unknown.

    Args:
        run: Run whose own images are compared; a missing dataset is not downloaded.
        external: Data that the run is evaluated on.
        own: The run's own data, if it has been read before.
    """
    assert external.test_set
    hashes = subset_hashes(external.test_set)
    run.config.data.download = False
    try:
        if hashes is None:
            raise UserError("the images are decoded on the fly")
        log.info("data: comparing with the run's own images")
        own = own or original_data(run)
    except UserError as error:
        log.info("data: not known whether the run was trained on these images (%s)", error)
        return {}
    counts = {}
    for name, subset in {"training": own.train_set, "validation": own.val_set}.items():
        own_hashes = subset_hashes(subset) if subset else None
        if own_hashes is not None and (count := int(torch.isin(hashes, own_hashes).sum())):
            counts[f"{name}_images"] = count
            log.warning(
                "data: %s of these %s images are %s images of the run, so the accuracy is not that for new images; "
                "use others, or leave out data= to use its own test images",
                f"{count:,}", f"{len(hashes):,}", name,
            )  # fmt: skip
    return counts


def external_test_data(run: FinishedRun) -> DataModule:
    """Return other images: the test split, or all if there is none; raise a UserError if they have other classes."""
    inputs = run.inputs
    channels, height, width = inputs["image_shape"]
    datamodule = build_datamodule(
        run,
        **{name: inputs[name] for name in ("mean", "std", "resize")},
        image_size=None,
        decode_size=None,
        crop_pct=None,
        interpolation=inputs["interpolation"],
    )
    source = datamodule.source
    source.reader.channels, source.reader.bit_depth = channels, inputs["bit_depth"]
    source.reader.decode_size = inputs["decoded_size"]
    has_test_split = source.has_split("test")
    part = source.split("test" if has_test_split else "train")
    if part is None:
        raise UserError(f"data: {source.name} has no images; choose other data with data=CHOICE")
    images, known = part.dataset, inputs["classes"]
    if others := [name for name in images.classes if name not in known]:
        raise UserError(
            f"data: {source.name} has images of {', '.join(others)}, but the classes of {run.path} are "
            f"{', '.join(known)}; use these names, or map them with data.target_transform"
        )
    images.targets = torch.tensor([known.index(name) for name in images.classes])[images.targets]
    images.classes = known
    which = "test split" if has_test_split else "all of them, since it has no test split"
    log.info("data: %s, %s images (%s)", source.name, f"{len(part):,}", which)
    datamodule.train_set = datamodule.test_set = part  # setup then loads nothing
    datamodule.image_shape, datamodule.classes = (channels, height, width), images.classes
    datamodule.center_crop = CenterCrop((height, width), inputs["crop_pct"])
    datamodule.normalize = Normalize(inputs["mean"], inputs["std"])
    return datamodule


def build_datamodule(run: FinishedRun, **inputs: Any) -> DataModule:
    """Build the run's DataModule, with these values instead of those of the config."""
    check_config(run.config.data, "data", {})
    datamodule: DataModule = instantiate(run.config.data, "data", **inputs)
    return datamodule


class ImagesToCompare(NamedTuple):
    """Images to compare models on: uint8 (N, C, H, W), their labels if known, their kind, for messages.

    The training images are those of the run, if the other images are too.
    """

    images: Tensor
    targets: Tensor | None
    kind: str
    train_set: ImageSubset | None = None


def images_to_compare(run: FinishedRun, count: int, is_external: bool) -> ImagesToCompare:
    """Return up to `count` evenly spaced test images, or random images if the run's data is missing.

    Args:
        is_external: Whether other data than the run's was chosen, which must exist.
    """
    try:
        datamodule = external_test_data(run) if is_external else original_test_data(run)
        part = datamodule.test_set
        assert part is not None
    except UserError as error:
        if is_external:
            raise
        log.warning("comparing on random images, since the test images are not available: %s", error)
        shape = (count, run.inputs["image_shape"][0], *run.inputs["decoded_size"])
        generator = torch.Generator().manual_seed(0)
        return ImagesToCompare(torch.randint(256, shape, dtype=torch.uint8, generator=generator), None, "random images")
    images, targets = part.__getitems__(evenly_spaced_indices(len(part), count))
    return ImagesToCompare(images, targets, "test images", None if is_external else datamodule.train_set)


def own_training_images(run: FinishedRun) -> ImageSubset:
    """Return the training images of a run; raise a UserError if they are not available."""
    try:
        return original_data(run).train_set
    except UserError as error:
        raise UserError(f"formats=onnx_int8: needs the training images of the run; {error}") from error


def calibration_images(train_set: ImageSubset) -> Tensor:
    """Return random training images, the same each time, uint8 (N, C, H, W)."""
    order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(0))
    return train_set.__getitems__(order[:CALIBRATION_IMAGES].tolist())[0]
