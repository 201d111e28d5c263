"""Verify a config that is not trusted: it may only name parts of a training and write into its own folder."""

import importlib.util
import inspect
import os
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.flatten import iter_values
from pytorch_intro.config.paths import PROJECT, PROJECT_VARIABLE, project_around

# Packages whose subclasses of ALLOWED_BASES are allowed. Not torch.utils.data: some of its datasets unpickle files.
PACKAGES = ("torch.nn", "torch.optim", "torchvision", "lightning", "torchmetrics", "pytorch_intro")
CLASSIFIER = "pytorch_intro.training.classifier.Classifier"  # of almost every run: allowed without its import
CHECKPOINT = "lightning.pytorch.callbacks.checkpoint.Checkpoint"  # compared by name, which needs no import
ALLOWED_BASES = (
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "torchmetrics.Metric",
    "lightning.LightningModule",
    "lightning.LightningDataModule",
    "lightning.Trainer",
    "lightning.Callback",
    # Not every Logger: most send what they log to a server, and a config could choose which.
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.profilers.Profiler",
)
DATASETS = ("torchvision.datasets", "pytorch_intro")
UNSAFE_DATASETS = ("LSUN", "LSUNClass")  # these unpickle a file in their folder
# Modules whose functions are allowed. Elsewhere, functions can run code: torch.hub.load, torch.os.system.
FUNCTION_MODULES = ("torchvision.models", "pytorch_intro.training.schedulers")
# References to a value in the same file, or resolvers that return text: these cannot create a `_target_`.
REFERENCE = re.compile(r"\$\{[\w.\[\]-]+\}|\$\{(?:project|package|epochs_for_data|output_dir|hydra|oc\.env):[^${}]*\}")
OUTPUT_KEYS = ("dirpath", "save_dir", "default_root_dir")  # settings with a folder to write into
WRITERS = ("callbacks", "logger", "trainer")  # whose other settings may be parts of a path, such as a version
WANDB_LINK = "wandb/*run-*/logs/*.log"  # which the client makes itself, to the user's cache, and writes only once
SERVER_KEYS = ("tracking_uri", "artifact_location")  # settings with a server, or a database in the folder of all runs


def verify_config(config: DictConfig, folder: Path, allow: Sequence[str], source: str) -> None:
    """Raise a UserError if a config could run code of its author's choice.

    For the check, only modules of PACKAGES and of src/ are imported.

    Args:
        config: Config of a run, as it will be used. References are checked unresolved, as they may change.
        folder: Folder of the run, the only one that the config may write into.
        allow: Further packages, modules or objects that the config may name.
        source: Origin of the config, for the error message.

    Raises:
        UserError: for the first value that is refused.
    """
    for key, value in iter_values(OmegaConf.to_container(config, resolve=False), types=(dict, list)):
        if isinstance(value, str) and "${" in REFERENCE.sub("", value):
            raise UserError(f"{source}: {key}={value}: refused, the interpolation could run code; use its value")
        if key.rpartition(".")[2] == "_target_":
            verify_target(key, value, allow, source, folder)
    for key, value in iter_values(OmegaConf.to_container(config, resolve=True), types=(dict, list)):
        name = key.rpartition(".")[2]
        if name in OUTPUT_KEYS and leaves(target := os.path.realpath(str(value)), folder) and target not in allow:
            raise UserError(f"{source}: {key}={value}: refused, outside the run folder; use a folder in {folder}")
        if name in SERVER_KEYS and value is not None and str(value) not in allow and not is_in_outputs(value, config):
            raise UserError(
                f"{source}: {key}={value}: refused, it would get what the run logs; if you trust it, add "
                f"'allow=[{value}]'"
            )
        writes = key.partition(".")[0] in WRITERS and name not in (*OUTPUT_KEYS, *SERVER_KEYS)
        if writes and isinstance(value, str) and value not in allow and ("\0" in value or leaves(value, folder)):
            raise UserError(
                f"{source}: {key}={value}: refused, outside the run folder; if you trust it, add 'allow=[{value}]'"
            )


def verify_run(config: DictConfig, folder: Path, allow: Sequence[str], source: str) -> None:
    """Verify the config of a run that is resumed, and refuse links that lead out of its folder: they are written to."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            if not path.is_symlink() or path.relative_to(folder).match(WANDB_LINK):
                continue
            if leaves(target := os.path.realpath(path), folder) and target not in allow:
                raise UserError(
                    f"{path}: refused, a link to {target}, outside the run folder; replace it by the file or folder "
                    f"itself, or if you trust it, add 'allow=[{target}]'"
                )
    verify_config(config, folder, allow, source)


def leaves(path: str, folder: Path) -> bool:
    """Return whether a path, absolute or relative to the folder, is outside of it."""
    return not Path(os.path.realpath(folder / path)).is_relative_to(folder.resolve())


def is_in_outputs(value: Any, config: DictConfig) -> bool:
    """Return whether a folder, or a file that sqlite:///PATH names, is in the folder of all runs."""
    text, outputs = str(value).removeprefix("sqlite:///"), str(config.get("outputs"))
    return "://" not in text and Path(text).resolve().is_relative_to(Path(outputs).resolve())


def verify_target(key: str, target: Any, allow: Sequence[str], source: str, folder: Path) -> None:
    """Raise a UserError unless a `_target_` is allowed."""
    if isinstance(target, str) and (is_within(target, allow) or is_allowed_target(target)):
        return
    if isinstance(target, str) and is_known(target) and find_object(target) is None:
        raise UserError(
            f"{source}: {key}={target}: not found in the installed code; check out the commit of the run, or write "
            f"the new name into {source}"
        )
    if isinstance(target, str) and (project := project_with(target, folder)):
        raise UserError(
            f"{source}: {key}={target}: its code is in the project {project}; run the command there, or if you trust "
            f"it, set the environment variable {PROJECT_VARIABLE}={project}"
        )
    reason = "not part of torch, torchvision, lightning, torchmetrics or this project"
    if isinstance(target, str) and is_known(target):
        reason = "not a class that a run needs, such as a network, an optimizer, a callback or a dataset"
        if is_foreign_checkpoint(find_object(target)):
            reason = "it removes files that last.ckpt names, also outside the run folder"
    raise UserError(f"{source}: {key}={target}: refused, {reason}; if you trust it, add 'allow=[{target}]'")


def project_with(target: str, folder: Path) -> Path | None:
    """Return the project that a run folder is in, if it is another one and has the module of a target in its src/."""
    module = target.partition(".")[0]
    project = project_around(folder.resolve())
    if project in (None, PROJECT) or not module.isidentifier():
        return None
    return project if any((project / "src" / name).exists() for name in (module, f"{module}.py")) else None


def is_within(target: str, names: Sequence[str]) -> bool:
    """Return whether the target is one of these packages, modules or objects, or inside one."""
    return any(f"{target}.".startswith(f"{name}.") for name in names)


def is_allowed_target(target: str) -> bool:
    """Return whether the target is a class, or a function that makes one, that a training consists of.

    Both its name and the module that defines it must be known, as a module also has names that it imports.
    """
    if target == CLASSIFIER:
        return True
    found = find_object(target) if is_known(target) else None
    module = getattr(found, "__module__", None) or ""
    if not inspect.isclass(found):
        return inspect.isfunction(found) and is_within(module, FUNCTION_MODULES)
    is_allowed = any(issubclass(found, find_object(base)) for base in ALLOWED_BASES)  # networks before Lightning
    is_allowed &= not is_foreign_checkpoint(found)
    return is_known(module) and (is_allowed or is_safe_dataset(found) or is_own_logger(found))


def is_known(target: str) -> bool:
    """Return whether the target is in a known package or in this project's src/."""
    return is_within(target, PACKAGES) or is_project_code(target)


def is_project_code(target: str) -> bool:
    """Return whether the target is in a module in src/, without importing it."""
    try:
        spec = importlib.util.find_spec(target.partition(".")[0])
    except (ImportError, ValueError):
        return False
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    return any(place and Path(place).is_relative_to(PROJECT / "src") for place in places)


def find_object(target: str) -> Any:
    """Import the target; None if it does not exist."""
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return None


def is_foreign_checkpoint(found: Any) -> bool:
    """Return whether an object is a callback that saves checkpoints, but none of this project.

    Lightning's ModelCheckpoint removes the files that its state in the checkpoint names.
    """
    names = {f"{base.__module__}.{base.__name__}" for base in found.__mro__} if inspect.isclass(found) else set()
    return CHECKPOINT in names and not is_within(found.__module__, ["pytorch_intro"])


def is_own_logger(found: type) -> bool:
    """Return whether a class is a logger of this project, whose servers verify_config checks, or of src/."""
    from lightning.pytorch.loggers import Logger

    is_own = is_within(found.__module__, ["pytorch_intro"]) or is_project_code(found.__module__)
    return is_own and issubclass(found, Logger)


def is_safe_dataset(found: type) -> bool:
    """Return whether a class is a dataset that does not unpickle files."""
    from torch.utils.data import Dataset

    is_safe = is_within(found.__module__, DATASETS) and found.__name__ not in UNSAFE_DATASETS
    return (is_safe or is_project_code(found.__module__)) and issubclass(found, Dataset)
