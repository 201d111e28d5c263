"""Losses: a mean over the images of a batch, from logits (N, C) and labels (N,) or class probabilities (N, C)."""

import inspect
import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.config.validate import LOSS_SETTINGS
from pytorch_intro.data.class_weights import (
    balanced_weights,
    describe_weights,
    effective_number_weights,
    named_weights,
    normalize_weights,
)
from pytorch_intro.data.datamodule import DataModule

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]
Smoothing = Annotated[float, Field(ge=0, lt=1)]
Gamma = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CrossEntropy(nn.Module):
    """-log p_y, with label smoothing (Szegedy et al. 2016, arXiv:1512.00567).

    Args:
        label_smoothing: Fraction of each label that is spread over all classes.
        class_weights: Weight of an image by its class, (C,) float; see weighted_mean.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: Smoothing = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.class_weights is None:
            return cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        losses = cross_entropy(logits, targets, label_smoothing=self.label_smoothing, reduction="none")
        return weighted_mean(losses, targets, self.class_weights)


class Focal(nn.Module):
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017, arXiv:1708.02002), with p by softmax; the paper has one sigmoid.

    Args:
        gamma: Exponent. The larger, the less an image counts that is classified well; 0 is cross-entropy.
        class_weights: Weight of an image by its class, (C,) float: the paper's alpha; see weighted_mean.
    """

    class_weights: Tensor | None

    def __init__(self, gamma: Gamma = 2.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        log_p = logits.float().log_softmax(dim=1)
        # At p = 1, the derivative of (1 - p)^gamma would be infinite for gamma < 1.
        rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        losses = -(to_probabilities(targets, logits.shape[1]) * rest**self.gamma * log_p).sum(dim=1)
        return weighted_mean(losses, targets, self.class_weights)


class BinaryCrossEntropy(nn.Module):
    """-log s(z_y) - sum over other classes k of log (1 - s(z_k)), with one sigmoid s per class.

    As in ResNet strikes back (Wightman et al. 2021, arXiv:2110.00476), but summed over the classes, and with the class
    probabilities of MixUp and CutMix as they are.

    Args:
        label_smoothing: Fraction of each label that is spread over all classes.
        class_weights: Weight of an image by its class, (C,) float; see weighted_mean.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: Smoothing = 0.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        num_classes = logits.shape[1]
        labels = to_probabilities(targets, num_classes)
        smoothed = (1 - self.label_smoothing) * labels + self.label_smoothing / num_classes
        losses = binary_cross_entropy_with_logits(logits.float(), smoothed, reduction="none").sum(dim=1)
        return weighted_mean(losses, targets, self.class_weights)


def is_cross_entropy(loss: object) -> bool:
    """Return whether a loss is plain cross-entropy: the mean, without label smoothing and class weights."""
    if isinstance(loss, CrossEntropy):
        return loss.label_smoothing == 0 and loss.class_weights is None
    if isinstance(loss, nn.CrossEntropyLoss):
        return loss.label_smoothing == 0 and loss.weight is None
    return loss is cross_entropy


def to_probabilities(targets: Tensor, num_classes: int) -> Tensor:
    """Return labels (N,) int64 as class probabilities, (N, C) float32, and class probabilities as they are."""
    return one_hot(targets, num_classes).float() if targets.ndim == 1 else targets


def weighted_mean(losses: Tensor, targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return sum over images of w_y loss / N; the mean if there are no weights.

    The sum is divided by N, not by the weights of the batch, so that means over batches and ranks are exact. A mixed
    image has the mean weight of its classes.

    Args:
        losses: (N,) float.
        targets: (N,) int64, or class probabilities (N, C).
        class_weights: (C,) float, with a mean of 1 over all training images.
    """
    if class_weights is None:
        return losses.mean()
    weights = class_weights[targets] if targets.ndim == 1 else targets @ class_weights.to(targets.dtype)
    return (weights * losses).mean()


def build_loss(node: DictConfig, datamodule: DataModule) -> Loss:
    """Build the loss of a loss node, with class weights from the training images, and check that it fits the data."""
    key, name = "loss.class_weights", node["_target_"].rpartition(".")[2]
    values = {}
    if node.get("class_weights") is not None:
        weights = class_weights(node, datamodule)
        if "class_weights" not in inspect.signature(hydra.utils.get_object(node["_target_"])).parameters:
            raise UserError(f"{key}: {name} has no parameter class_weights; add one, or use {key}=null")
        setting = node.class_weights if isinstance(node.class_weights, str) else "by name"
        log.info("loss: class weights %s: %s", setting, describe_weights(weights, datamodule.classes))
        values["class_weights"] = weights
    arguments = OmegaConf.masked_copy(node, [str(name) for name in node if f"loss.{name!s}" not in LOSS_SETTINGS])
    loss: Loss = instantiate(arguments, "loss", **values)
    if isinstance(loss, partial):
        loss = partial(loss.func, *loss.args, **loss.keywords)  # Hydra's class would check the target in every step
    check_loss(loss, len(datamodule.classes), datamodule.mix is not None)
    return loss


def class_weights(node: DictConfig, datamodule: DataModule) -> Tensor:
    """Return the weight of an image of each class, (num_classes,) float32, with a mean of 1 over all training images.

    Args:
        node: Loss node with `class_weights`, which is not null, and `beta` for effective_number.
    """
    key, setting = "loss.class_weights", node["class_weights"]
    counts = datamodule.train_set.targets.bincount(minlength=len(datamodule.classes))
    if setting == "balanced":
        weights = balanced_weights(counts)
    elif setting == "effective_number":
        weights = effective_number_weights(counts, node.get("beta", 0.999))
    else:
        weights = named_weights(key, setting, datamodule.classes)
    return normalize_weights(key, weights, counts).float()


def check_loss(loss: Loss, num_classes: int, has_mix: bool) -> None:
    """Raise a UserError unless a loss accepts the logits and targets of this data, and has no state.

    Args:
        has_mix: Whether MixUp or CutMix turn the labels into class probabilities.
    """
    name = getattr(loss.func if isinstance(loss, partial) else loss, "__name__", type(loss).__name__)
    if isinstance(loss, nn.Module) and loss.state_dict():
        raise UserError(
            f"loss: {name} has parameters or buffers, which are neither trained nor saved; register buffers with "
            "persistent=False"
        )
    size = 3 if num_classes == 2 else 2  # another number, as equal ones hide mistakes
    logits = torch.zeros(size, num_classes, requires_grad=True)
    kinds = {"labels (N,)": torch.zeros(size, dtype=torch.int64)}
    if has_mix:
        mixed = torch.full((size, num_classes), 1 / num_classes)
        kinds["class probabilities (N, num_classes) of data.mixup_alpha and data.cutmix_alpha"] = mixed
    for kind, targets in kinds.items():
        remedy = "use another loss" if targets.ndim == 1 else "set both to 0, or use another loss"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an error explains it
                value = loss(logits, targets)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise UserError(f"loss: {name} does not accept {kind} ({first_lines(error)}); {remedy}") from error
        if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
            raise UserError(f"loss: {name} does not return one number with a gradient for {kind}; return a mean")
