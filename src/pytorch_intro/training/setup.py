"""From a config to a training: data, module and trainer, checked against each other before any work is done."""

import math
from typing import Any, NamedTuple

import torch
from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.instantiate import instantiate, invalid_value_error
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.trainer import build_trainer, check_monitors


class Experiment(NamedTuple):
    """The objects that a training consists of."""

    datamodule: DataModule
    classifier: Classifier
    trainer: Trainer


def build_experiment(config: DictConfig, hardware: dict[str, Any]) -> Experiment:
    """Seed all random number generators, then build what a config describes.

    The trainer and the optimizer come first: their settings are checked before images are read.

    Args:
        config: Config of a training.
        hardware: Accelerator and precision, as resolve_hardware returns them.

    Raises:
        UserError: if a value is rejected.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    trainer = build_trainer(config.trainer, config.callbacks, config.logger, hardware)
    optimization = build_optimization(config)
    datamodule = build_datamodule(config)
    check_monitors(trainer, datamodule)
    return Experiment(datamodule, build_classifier(config, datamodule, optimization), trainer)


def build_datamodule(config: DictConfig) -> DataModule:
    """Build the data module, with the training and validation images loaded."""
    datamodule: DataModule = instantiate(config.data, "data")
    datamodule.setup("fit")
    return datamodule


def build_optimization(config: DictConfig) -> tuple[Any, Any]:
    """Build the factories of the optimizer and of its schedule.

    Factories check their values when they are called, so both are called once with a dummy parameter.

    Raises:
        UserError: if a value is rejected.
    """
    make_optimizer = instantiate(config.optimizer, "optimizer")
    make_scheduler = instantiate(config.scheduler, "scheduler")
    total_steps = math.inf if _is_endless(config.trainer) else 10
    key = "optimizer"
    try:
        optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        key = "scheduler"
        make_scheduler(optimizer, total_steps)
    except (ValueError, TypeError) as error:
        raise invalid_value_error(key, config[key], error) from error
    return make_optimizer, make_scheduler


def build_classifier(
    config: DictConfig, datamodule: DataModule, optimization: tuple[Any, Any] | None = None
) -> Classifier:
    """Build the LightningModule, around a network for the image shape and number of classes of the data.

    Args:
        config: Config of a training.
        datamodule: Data module after setup.
        optimization: Result of build_optimization; None: built here.

    Raises:
        UserError: if a value is rejected.
    """
    optimizer, scheduler = optimization or build_optimization(config)
    num_classes = len(datamodule.classes)
    network = instantiate(config.model, "model", image_shape=datamodule.image_shape, num_classes=num_classes)
    dry_run(network, datamodule.image_shape, num_classes)
    values = {"network": network, "num_classes": num_classes, "optimizer": optimizer, "scheduler": scheduler}
    if config.classifier.get("tta_flip") is None:
        values["tta_flip"] = datamodule.augment.has_hflip
    classifier: Classifier = instantiate(config.classifier, "classifier", **values)
    return classifier


def dry_run(network: torch.nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Check the shape of the network's output for two black images.

    Raises:
        UserError: if the network does not accept the images or returns another shape than (2, num_classes).
    """
    shape, expected = (2, *image_shape), (2, num_classes)
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output_shape = tuple(network(torch.zeros(shape)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"model: {type(network).__name__} does not accept images of shape {shape} ({first_lines(error)}); choose "
            "another model, or another data.image_size"
        ) from error
    if output_shape != expected:
        raise UserError(
            f"model: {type(network).__name__} returns {output_shape} for images of shape {shape}, expected {expected}"
        )
    network.train()


def _is_endless(trainer: DictConfig) -> bool:
    """Return whether training has neither a last epoch nor a last step."""
    if trainer.max_steps != -1:
        return False
    return trainer.max_epochs == -1 or (trainer.max_epochs is None and trainer.max_time is not None)
