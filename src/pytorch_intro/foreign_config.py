"""What a config that others wrote may do: name parts of a training, and write into its own folder."""

import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.errors import UserError
from pytorch_intro.paths import PROJECT

# Where classes of the kinds below make parts of a training; torch.utils.data's, for one, unpickle files.
PACKAGES = ("torch.nn", "torch.optim", "torchvision", "lightning", "torchmetrics", "pytorch_intro")
DATASETS = ("torchvision.datasets", "pytorch_intro")
UNSAFE_DATASETS = ("LSUN", "LSUNClass")  # which unpickle what lies beside their images
# Whose functions do so; elsewhere functions do other things: torch.hub.load runs a file, torch.os.system a command.
MODULES_OF_FUNCTIONS = ("torchvision.models", "pytorch_intro.schedulers")
# References that lead to a value which the file holds, or to a text: none of them makes a node with a `_target_`.
REFERENCE = re.compile(r"\$\{[\w.\[\]-]+\}|\$\{(?:project|hydra|oc\.env):[^${}]*\}")
WRITTEN = ("dirpath", "save_dir", "default_root_dir")  # settings that name a folder to write into


def check_foreign(config: DictConfig, folder: Path, allowed: Sequence[str], source: str) -> None:
    """Refuse a config from elsewhere that could run code of its author's choice, before anything it names is imported.

    Args:
        config: Of a run that is to be carried on, as it will be used; references in it are not resolved here, for they
            might lead elsewhere the next time.
        folder: The run's, the only one that it may write into.
        allowed: Packages, modules or objects of the user's own that may be named as well.
        source: Where the config is from, for the message.

    Raises:
        UserError: for the first value that is refused.
    """
    for key, value in values_in(OmegaConf.to_container(config, resolve=False), ""):
        name = key.rpartition(".")[2]
        if isinstance(value, str) and "${" in REFERENCE.sub("", value):
            raise UserError(f"{source}: {key}={value} is refused: it is a reference of a kind that could run code")
        if name == "_target_" and not (isinstance(value, str) and (is_within(value, allowed) or is_part(value))):
            if isinstance(value, str) and is_known(value) and found_object(value) is None:
                raise UserError(
                    f"{source}: {key}={value}: the code has nothing of this name any more; use the code that the run "
                    "was made with, or write the new name there"
                )
            raise UserError(
                f"{source}: {key}={value} is refused: a run's config may name parts of torch, torchvision, lightning, "
                f"torchmetrics and this project alone; if you trust it, allow it by 'allow=[{value}]'"
            )
    for key, value in values_in(OmegaConf.to_container(config, resolve=True), ""):
        if key.rpartition(".")[2] in WRITTEN and not Path(str(value)).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{source}: {key}={value} is refused: it lies outside the run's folder, {folder}")


def values_in(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of all that is neither a mapping nor a list, however deep."""
    if not isinstance(node, (dict, list)):
        yield key, node
        return
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from values_in(value, f"{key}.{name}".lstrip("."))


def is_within(target: str, names: Sequence[str]) -> bool:
    """Whether the target is one of these packages, modules or objects, or in one."""
    return any(f"{target}.".startswith(f"{name}.") for name in names)


def is_part(target: str) -> bool:
    """Whether it is a class of the kinds that a training is made of, or a function that makes one, of a known package.

    Both by the name that is written and by the module that it turns out to be from: a module's name leads on to what it
    imports.
    """
    found = found_object(target) if is_known(target) else None
    module = getattr(found, "__module__", None) or ""
    if not inspect.isclass(found):
        return inspect.isfunction(found) and is_within(module, MODULES_OF_FUNCTIONS)
    return is_known(module) and (issubclass(found, kinds()) or is_dataset(found))


def is_known(target: str) -> bool:
    """Whether it lies in a known package, or beside this project's in src/, where one's own classes are."""
    return is_within(target, PACKAGES) or is_own(target)


def is_own(target: str) -> bool:
    """Whether it lies in a module in src/; nothing is imported to find out."""
    try:
        spec = importlib.util.find_spec(target.partition(".")[0])
    except (ImportError, ValueError):
        return False
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    return any(place and Path(place).is_relative_to(PROJECT / "src") for place in places)


def found_object(target: str) -> Any:
    """What the name stands for; None if there is no such thing."""
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return None


def kinds() -> tuple[type, ...]:
    """What the objects of a run's config are, but for its data set."""
    from lightning import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.profilers import Profiler
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torchmetrics import Metric

    learning = (nn.Module, LightningModule, Optimizer, LRScheduler, Metric)
    return *learning, LightningDataModule, Trainer, Callback, Logger, Profiler


def is_dataset(found: type) -> bool:
    from torch.utils.data import Dataset

    is_safe = is_within(found.__module__, DATASETS) and found.__name__ not in UNSAFE_DATASETS
    return (is_safe or is_own(found.__module__)) and issubclass(found, Dataset)
