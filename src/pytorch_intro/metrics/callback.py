"""Further metrics of each validation and test, computed by a callback from the logits that each step returns."""

import inspect
import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any

import hydra
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor
from torchmetrics import Metric, MetricCollection, classification

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.datamodule import DataModule, datamodule_of
from pytorch_intro.data.dataset import Batch
from pytorch_intro.metrics.scores import ClassScores
from pytorch_intro.training.lightning_internals import callbacks

log = logging.getLogger(__name__)

MAX_SCORES = 20_000_000  # images x classes that are stored: 80 MB on each device, and in compute a few times that
NUM_THRESHOLDS = 200  # of torchmetrics' curves for more scores
# Logged by the Classifier and by the calibration.
LOGGED = ("loss", "accuracy", "accuracy_no_tta", "ece", "nll", "ece_uncalibrated", "nll_uncalibrated")
# Settings that the states of torchmetrics' metrics depend on, besides the class that defines `update`.
STATE_SETTINGS = ("num_classes", "top_k", "average", "multidim_average", "ignore_index", "thresholds", "exact")


def add_metrics(nodes: Mapping[str, DictConfig], datamodule: DataModule, trainer: Trainer) -> None:
    """Check the chosen metrics, and add a callback that computes them to the trainer.

    Args:
        nodes: Config nodes of torchmetrics classes, by the name that is logged; what they leave out and the data
            determines, such as num_classes, is filled in.
        datamodule: Data, set up for training or testing.

    Raises:
        UserError: If a metric does not fit the data or the task, or a name is taken.
    """
    num_classes = len(datamodule.classes)
    for name, node in nodes.items():
        check_name(name)
        check_metric(name, node, num_classes)
        if datamodule.val_set is not None:
            check_validation(name, node, datamodule.val_set.targets)
    if datamodule.val_set is not None:
        support = torch.bincount(datamodule.val_set.targets, minlength=num_classes).tolist()
        if missing := [name for name, images in zip(datamodule.classes, support, strict=True) if not images]:
            names = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            log.warning(f"metrics: no validation images of {names}; means over classes leave these classes out")
    callbacks(trainer).insert(0, FurtherMetrics(nodes, num_classes))


def check_name(name: str) -> None:
    """Raise a UserError for a name that cannot be logged, or is already."""
    if name in LOGGED:
        raise UserError(f"metrics.{name}: val/{name} or test/{name} is logged already; use another name")
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"metrics.{name}: invalid name; use letters, digits and _")


def check_metric(name: str, node: DictConfig, num_classes: int) -> None:
    """Raise a UserError unless a metric takes class probabilities and returns one number."""
    key, target = f"metrics.{name}", node["_target_"]
    found = hydra.utils.get_object(target)
    if not (inspect.isclass(found) and issubclass(found, Metric)):
        raise UserError(f"{key}._target_={target}: not a metric; use a class of torchmetrics.classification")
    if node.get("num_classes") not in (None, num_classes):
        raise UserError(f"{key}.num_classes={node.num_classes}: the data has {num_classes} classes; leave it out")
    top_k = node.get("top_k")
    if isinstance(top_k, int) and top_k >= num_classes:
        raise UserError(
            f"{key}.top_k={top_k}: the data has {num_classes} classes, so that the true class is always among the "
            f"{top_k} most probable ones; leave out {name}, or use a smaller top_k"
        )
    count = 5 if num_classes != 5 else 6  # not the number of classes: shapes that do not fit must not match
    targets = torch.arange(count) % num_classes
    probabilities = (torch.arange(count * num_classes).view(count, num_classes) % 7).float().softmax(dim=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes without images
            metric = build_metric(name, node, num_classes, is_exact=True, validate_args=True)
            metric.update(probabilities, targets)
            value = metric.compute()
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        raise UserError(f"{key}._target_={target}: does not take class probabilities ({first_lines(error)}); "
                        f"{similar_metric(target)}") from error  # fmt: skip
    if not isinstance(value, Tensor) or value.numel() != 1:
        remedy = "set average=macro or micro" if "average" in inspect.signature(found).parameters else "use another one"
        raise UserError(f"{key}._target_={target}: returns more than one number; {remedy}")


def similar_metric(target: str) -> str:
    """Return a remedy for a metric of another task: the class of the same name for several classes, if it exists."""
    name = "Multiclass" + re.sub("^(Binary|Multilabel)", "", target.rpartition(".")[2])
    if hasattr(classification, name) and not target.endswith(name):
        return f"use torchmetrics.classification.{name}"
    return "use a Multiclass… class of torchmetrics.classification"


def check_validation(name: str, node: DictConfig, targets: Tensor) -> None:
    """Raise a UserError for a metric that is not defined if all validation images have the same class."""
    found = hydra.utils.get_object(node["_target_"])
    needs_two = issubclass(found, (ClassScores, classification.MulticlassPrecisionRecallCurve))
    if needs_two and len(targets.unique()) < 2:
        raise UserError(
            f"metrics.{name}: needs validation images of at least two classes, but all {len(targets):,} have the same; "
            f"use a larger data.val_fraction, or leave out {name}"
        )


def build_metric(name: str, node: DictConfig, num_classes: int, is_exact: bool, validate_args: bool = False) -> Metric:
    """Instantiate a metric; settings that the config leaves out are filled in.

    Args:
        is_exact: Whether to store the score of every image and class, if the metric needs them.
        validate_args: Whether torchmetrics checks every batch, which takes longer than the metric.
    """
    values = {
        "task": "multiclass",
        "num_classes": num_classes,
        "validate_args": validate_args,
        "exact": is_exact,
        "thresholds": None if is_exact else NUM_THRESHOLDS,
    }
    parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    values = {key: value for key, value in values.items() if key in parameters and node.get(key) is None}
    metric: Metric = instantiate(node, f"metrics.{name}", **values)
    return metric


def compute_groups(metrics: Mapping[str, Metric]) -> list[list[str]]:
    """Return the names of metrics that share their states, so that one update serves all of a group.

    torchmetrics would compare the states after the first batch instead: accuracy and top-5 accuracy are equal if all
    images of that batch are classified correctly, and top-5 accuracy would stay that of the other.
    """
    groups: dict[Any, list[str]] = {}
    for name, metric in metrics.items():
        is_known = type(metric).__module__.startswith(("torchmetrics.", "pytorch_intro."))
        settings = tuple(str(getattr(metric, setting, None)) for setting in STATE_SETTINGS)
        groups.setdefault((type(metric).update, settings) if is_known else name, []).append(name)
    return list(groups.values())


class FurtherMetrics(Callback):
    """Logs val/NAME after each validation and test/NAME after the test, over all images and ranks.

    Args:
        nodes: Config nodes of the metrics by name.
        num_classes: Number of classes.
    """

    def __init__(self, nodes: Mapping[str, DictConfig], num_classes: int) -> None:
        self.nodes = nodes
        self.num_classes = num_classes
        self.collections: dict[str, MetricCollection] = {}  # by stage

    def start(self, stage: str, num_images: int, device: torch.device) -> None:
        if stage not in self.collections:
            is_exact = num_images * self.num_classes <= MAX_SCORES
            metrics = {
                f"{stage}/{name}": build_metric(name, node, self.num_classes, is_exact)
                for name, node in self.nodes.items()
            }
            log_choice(metrics, f"{num_images:,} images x {self.num_classes:,} classes")
            collection = MetricCollection({**metrics}, compute_groups=compute_groups(metrics))
            self.collections[stage] = collection.to(device)
        self.collections[stage].reset()

    def update(self, stage: str, outputs: Any) -> None:
        self.collections[stage].update(outputs["logits"].float().softmax(dim=1), outputs["targets"])

    def finish(self, stage: str, pl_module: LightningModule) -> None:
        """Log the metrics of all ranks; every rank has to call this."""
        collection = self.collections[stage]
        metrics = dict(collection.items(keep_base=True, copy_state=False))
        for first, *_ in collection.compute_groups.values():  # the others of a group take over its states
            if not metrics[first].update_called:  # on a rank without images
                shape_states(metrics[first], self.num_classes)
        values = collection.compute()
        ordered = {f"{stage}/{name}": values[f"{stage}/{name}"].float().reshape(()) for name in self.nodes}
        pl_module.log_dict(ordered, on_step=False, on_epoch=True, sync_dist=True)  # the same bits on all ranks
        collection.reset()  # frees stored scores

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule = datamodule_of(trainer)
        images = datamodule.test_set if trainer.testing else datamodule.val_set
        self.start(stage_of(trainer), len(images or ()), pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.update(stage_of(trainer), outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(stage_of(trainer), pl_module)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


def stage_of(trainer: Trainer) -> str:
    return "test" if trainer.testing else "val"


def log_choice(metrics: Mapping[str, Metric], scores: str) -> None:
    """Log which metrics need the score of every image and class, and whether they store them."""
    is_exact = {}
    for name, metric in metrics.items():
        if isinstance(metric, ClassScores):
            is_exact[name] = bool(metric.exact)
        elif isinstance(metric, classification.MulticlassPrecisionRecallCurve):
            is_exact[name] = metric.thresholds is None
    for exact, what in ((True, "exact"), (False, "binned")):
        if names := ", ".join(name for name, value in is_exact.items() if value == exact):
            log.info(f"metrics: {names} {what} ({scores}; by default exact for up to {MAX_SCORES:,} scores)")


def shape_states(metric: Metric, num_classes: int) -> None:
    """Give lists of a metric without images, which are empty, the shape and type of those of other ranks."""
    empty = {name: state.clone() for name, state in metric.metric_state.items() if isinstance(state, Tensor)}
    probabilities = torch.full((1, num_classes), 1 / num_classes, device=metric.device)
    metric.update(probabilities, torch.zeros(1, dtype=torch.int64, device=metric.device))
    for name, state in metric.metric_state.items():
        rows = [torch.atleast_1d(each)[:0] for each in state] if isinstance(state, list) else empty[name]
        setattr(metric, name, rows)
