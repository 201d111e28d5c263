"""What a run logs, whether more or less of it is better, and the checks of callbacks that monitor it."""

import inspect
from collections.abc import Mapping
from typing import Any

import hydra
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.groups import choices

# What Classifier and EpochLogger log for callbacks; metrics=[…] adds further ones to those of a validation.
TRAIN_METRICS = ("train/loss", "train/accuracy", "train/cross_entropy", "epoch_seconds", "images_per_second")
VAL_METRICS = ("val/loss", "val/accuracy")

HIGHER_IS_BETTER = {
    "loss": False,
    "cross_entropy": False,
    "accuracy": True,
    "images_per_second": True,
    "epoch_seconds": False,
    "train_seconds": False,
    "total_seconds": False,
}


def chosen_metrics(config: DictConfig) -> dict[str, Any]:
    """Return the nodes of metrics=[…] and +metrics.NAME by name; accuracy, which is always logged, has none."""
    return dict(config.get("metrics") or {})


def val_metrics(config: DictConfig) -> tuple[str, ...]:
    """Return the names of what a validation logs."""
    return (*VAL_METRICS, *(f"val/{name}" for name in chosen_metrics(config)))


def is_higher_better(metric: str, chosen: Mapping[str, Any]) -> bool | None:
    """Return whether more of a metric is better; None if it is not known, as for those of a user's own callback.

    Args:
        metric: Name as it is logged, such as val/accuracy.
        chosen: Nodes of the chosen metrics, whose class has the answer.
    """
    stage, _, name = metric.rpartition("/")
    if name in HIGHER_IS_BETTER:
        return HIGHER_IS_BETTER[name]
    if stage not in ("val", "test") or name not in chosen:
        return None
    answer = getattr(metric_class(chosen[name]["_target_"]), "higher_is_better", None)
    return answer if isinstance(answer, bool) else None


def metric_class(target: str) -> Any:
    """Import a metric's class; torchmetrics.Accuracy and the like, whose class depends on the task, are multiclass."""
    found = hydra.utils.get_object(target)
    if not target.startswith("torchmetrics."):
        return found
    from torchmetrics import classification

    return getattr(classification, f"Multiclass{target.rpartition('.')[2]}", found)


def resolve_mode(key: str, node: DictConfig, chosen: Mapping[str, Any]) -> str | None:
    """Return the mode of a callback that monitors a metric, "min" or "max", if it takes one; else None.

    Raises:
        UserError: If the mode of the config contradicts the metric, or is null and does not follow from it.
    """
    monitor, mode = node.get("monitor"), node.get("mode")
    if not isinstance(monitor, str) or mode not in (None, "min", "max"):
        return mode
    better = is_higher_better(monitor, chosen)
    follows = None if better is None else "max" if better else "min"
    if mode is not None and follows not in (None, mode):
        more = "more" if better else "less"
        raise UserError(f"{key}.mode={mode}: {more} is better for {monitor}; remove it, or use {key}.mode={follows}")
    if mode is None and follows is None and "mode" in node:
        raise UserError(f"{key}.mode=null: does not follow from {monitor}; set {key}.mode=max or min")
    takes_mode = "mode" in inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    return (mode or follows) if takes_mode else None


def check_monitors(config: DictConfig, has_validation: bool = True) -> None:
    """Check that the run logs the metric that each callback monitors. The user's own classes may log further ones."""
    callbacks = {f"callbacks.{name!s}": node for name, node in config.callbacks.items() if node}
    targets = [node.get("_target_", "") for node in (config.classifier, *callbacks.values())]
    has_own_classes = not all(target.startswith(("pytorch_intro.", "lightning.")) for target in targets)
    has_validation = has_validation and config.trainer.limit_val_batches != 0
    validated = val_metrics(config)
    for key, node in callbacks.items():
        monitor = node.get("monitor")
        # BestLastCheckpoint compares validations; if there are none, it keeps the last checkpoint.
        is_checkpoint = node.get("_target_", "").endswith(".BestLastCheckpoint")
        known = validated if is_checkpoint else TRAIN_METRICS + validated * has_validation
        may_be_own = has_own_classes and monitor not in TRAIN_METRICS + validated
        if monitor is not None and monitor not in known and not may_be_own:
            remedy = f"choose from {', '.join(known)}"
            if monitor in validated:
                remedy = f"set data.val_fraction, remove trainer.limit_val_batches, or {remedy}"
                raise UserError(f"{key}.monitor={monitor}: the run has no validation data; {remedy}")
            kind = "validation " if is_checkpoint else ""
            raise UserError(f"{key}.monitor={monitor}: no such {kind}metric; {how_to_add(config, monitor)}{remedy}")
        if monitor is not None:
            resolve_mode(key, node, chosen_metrics(config))


def how_to_add(config: DictConfig, metric: str) -> str:
    """Return "add it with metrics=[…], or " for a metric that is a choice of metrics but was not chosen."""
    stage, _, name = str(metric).rpartition("/")
    if stage != "val" or name not in {file.stem for file in choices("metrics")}:
        return ""
    return f"add it with metrics=[{','.join(['accuracy', *chosen_metrics(config), name])}], or "
