"""What a config that others wrote may call: parts of a training, and nothing that runs code of their choice."""

import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.errors import UserError, one_line

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "pytorch_intro")
# Whose functions make parts of a training; elsewhere classes do, and functions do other things (torch.hub.load).
MODULES_OF_FUNCTIONS = ("torchvision.models", "pytorch_intro.schedulers", "pytorch_intro.benchmarks.tried")


def check_targets(config: DictConfig, allowed: Sequence[str], source: str) -> None:
    """Refuse a config from elsewhere that names anything but parts of a training, before any of it is imported.

    A package alone is not enough: torch.hub.load runs a file, torch.os.system a command.

    Args:
        allowed: Packages, modules or objects of the user's own that may be named as well.
        source: Where the config is from, for the message.

    Raises:
        UserError: for the first `_target_` that is refused.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True)  # for a reference may become one
    except OmegaConfBaseException as error:
        raise UserError(f"{source}: a reference in it leads nowhere ({one_line(error)})") from error
    for key, target in targets_in(resolved, ""):
        if not (isinstance(target, str) and (is_within(target, allowed) or is_part_of_training(target))):
            raise UserError(
                f"{source}: {key}={target} is refused: a run's config may name parts of torch, torchvision, lightning, "
                f"torchmetrics and this project alone; if you trust it, allow it by 'allow=[{target}]'"
            )


def targets_in(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all `_target_`s, however deep."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in children:
        path = f"{key}.{name}".lstrip(".")
        if name == "_target_":
            yield path, value
        yield from targets_in(value, path)


def is_within(target: str, names: Sequence[str]) -> bool:
    """Whether the target is one of these packages, modules or objects, or in one."""
    return any(f"{target}.".startswith(f"{name}.") for name in names)


def is_part_of_training(target: str) -> bool:
    """Whether it is a class of the kinds that a training is made of, or a function that makes one, of a known package.

    Both by the name that is written and by the module that it turns out to be from: a module's name leads on to what it
    imports.
    """
    if not is_within(target, PACKAGES):
        return False
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return False
    module = getattr(found, "__module__", None) or ""
    if inspect.isclass(found):
        return is_within(module, PACKAGES) and issubclass(found, kinds())
    return inspect.isfunction(found) and is_within(module, MODULES_OF_FUNCTIONS)


def kinds() -> tuple[type, ...]:
    """What the objects of a run's config are."""
    from lightning import Callback, LightningDataModule, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.profilers import Profiler
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset
    from torchmetrics import Metric

    learning = (nn.Module, Optimizer, LRScheduler, Metric)
    return *learning, Dataset, LightningDataModule, Trainer, Callback, Logger, Profiler
