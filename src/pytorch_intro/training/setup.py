"""Build the objects of a training from a config, and check them against each other before any work is done."""

import math
from typing import Any

import torch
from lightning import Trainer, seed_everything
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.instantiate import instantiate, invalid_value_error
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.trainer import build_trainer, check_monitors


def build_experiment(config: DictConfig, hardware: dict[str, Any]) -> tuple[DataModule, Classifier, Trainer]:
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
    check_optimization(config, trainer)
    datamodule = build_datamodule(config)
    check_monitors(trainer, datamodule)
    return datamodule, build_classifier(config, datamodule), trainer


def check_optimization(config: DictConfig, trainer: Trainer) -> None:
    """Build the optimizer and its schedule for a dummy parameter: their factories check values only when called.

    Raises:
        UserError: if a value is rejected.
    """
    total_steps = math.inf if trainer.max_epochs == trainer.max_steps == -1 else 10
    key = "optimizer"
    try:
        optimizer = instantiate(config.optimizer, key)([torch.nn.Parameter(torch.zeros(1))])
        key = "scheduler"
        instantiate(config.scheduler, key)(optimizer, total_steps)
    except (ValueError, TypeError) as error:
        raise invalid_value_error(key, config[key], error) from error


def build_datamodule(config: DictConfig) -> DataModule:
    """Build the data module, with the training and validation images loaded."""
    datamodule: DataModule = instantiate(config.data, "data")
    datamodule.setup("fit")
    return datamodule


def build_classifier(config: DictConfig, datamodule: DataModule) -> Classifier:
    """Build the LightningModule, around a network for the image shape and number of classes of the data.

    Args:
        config: Config of a training.
        datamodule: Data module after setup.

    Raises:
        UserError: if a value is rejected.
    """
    num_classes = len(datamodule.classes)
    network = instantiate(config.model, "model", image_shape=datamodule.image_shape, num_classes=num_classes)
    dry_run(network, datamodule.image_shape, num_classes)
    values = {
        "network": network,
        "num_classes": num_classes,
        "optimizer": instantiate(config.optimizer, "optimizer"),
        "scheduler": instantiate(config.scheduler, "scheduler"),
    }
    if config.classifier.get("tta_flip") is None:
        values["tta_flip"] = datamodule.augment.has_hflip
    classifier: Classifier = instantiate(config.classifier, "classifier", **values)
    return classifier


def dry_run(network: torch.nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Check the shape of the network's output for two black images.

    Raises:
        UserError: if the network does not accept the images or returns another shape than (2, num_classes).
    """
    name, shape, expected = type(network).__name__, (2, *image_shape), (2, num_classes)
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output_shape = tuple(network(torch.zeros(shape)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"model: {name} does not accept images of shape {shape} ({first_lines(error)}); choose another model, or "
            "another data.image_size"
        ) from error
    if output_shape != expected:
        raise UserError(
            f"model: {name} returns {output_shape} for images of shape {shape}, expected {expected}; choose another "
            "model, or return one logit per class"
        )
    network.train()
