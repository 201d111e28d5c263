"""From config nodes to objects: each `_target_` is called with its node's values."""

import math
import re
from typing import Any

import hydra
import torch
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.errors import UserError, one_line


def build(node: DictConfig, key: str, **values: Any) -> Any:
    """Call the node's `_target_` with its values and those given here, which take precedence.

    Args:
        key: The node's place in the config, for the messages.

    Raises:
        UserError: if the target says that a value is wrong.
    """
    try:
        return hydra.utils.instantiate(node, _convert_="all", **values)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (ValueError, TypeError, MisconfigurationException)):
            raise rejected(key, node, cause) from error
        raise cause from error


def build_optimization(
    optimizer: DictConfig, scheduler: DictConfig, trainer: DictConfig | None = None
) -> tuple[Any, Any]:
    """The functions that make the optimizer and its schedule, tried on a stand-in: they refuse wrong values only then.

    Args:
        trainer: Tells whether the training has neither a last epoch nor a last step.

    Raises:
        UserError: if one of them refuses a value.
    """
    make_optimizer, make_scheduler = build(optimizer, "optimizer"), build(scheduler, "scheduler")
    endless = (
        trainer is not None
        and trainer.max_steps == -1
        and (trainer.max_epochs == -1 or (trainer.max_epochs is None and trainer.max_time is not None))
    )
    key, node = "optimizer", optimizer
    try:
        stand_in = make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        key, node = "scheduler", scheduler
        make_scheduler(stand_in, math.inf if endless else 10)
    except (ValueError, TypeError) as error:
        raise rejected(key, node, error) from error
    return make_optimizer, make_scheduler


def build_classifier(
    classifier: DictConfig, model: DictConfig, datamodule: DataModule, optimizer: Any, scheduler: Any
) -> Classifier:
    """The LightningModule around a network of the data's image shape and number of classes.

    Raises:
        UserError: if a value is refused.
    """
    num_classes = len(datamodule.classes)
    network = build(model, "model", image_shape=datamodule.image_shape, num_classes=num_classes)
    try_network(network, datamodule.image_shape, num_classes)
    made = {"network": network, "num_classes": num_classes, "optimizer": optimizer, "scheduler": scheduler}
    if classifier.get("mirror") is None:
        made["mirror"] = datamodule.augment.has_hflip
    return build(classifier, "classifier", **made)


def try_network(network: torch.nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Find out on black images, before the training, whether a network goes with this shape.

    Raises:
        UserError: if it does not.
    """
    given, expected = (2, *image_shape), (2, num_classes)
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            made = tuple(network(torch.zeros(given)).shape)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"model: {type(network).__name__} takes no images {given} ({one_line(error)}); choose another network, or "
            "another data.image_size"
        ) from error
    if made != expected:
        raise UserError(f"model: {type(network).__name__} makes {made} of images {given}, not {expected}")
    network.train()


def rejected(key: str, node: DictConfig, cause: BaseException) -> UserError:
    """The user's mistake, in the words of the function that found it, with the setting that its words are about."""
    message = " ".join(str(cause).split())
    settings = [f"{key}.{name!s}={value}" for name, value in node.items() if _mentions(message, str(name), value)]
    return UserError(f"{', '.join(settings) or key}: {message}")


def _mentions(message: str, name: str, value: object) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) in [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", message)]
    return re.search(rf"\b{re.escape(name)}\b", message) is not None
