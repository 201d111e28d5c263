"""The config.yaml of a run, read again: by who began it, or where its folder has come from elsewhere."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pytorch_intro.errors import UserError, one_line
from pytorch_intro.foreign_config import check_foreign

CONFIG = "config.yaml"
PARTS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "classifier")  # of its config
# Settings that say nothing about a run.
UNCOMPARED = ("overwrite", "resume", "outputs", "allow", "run_dir", "sweep", "name")


def with_command(config: DictConfig) -> str:
    """A config as YAML, below the command that it was composed for."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    command = " ".join(shlex.join(["python", "src/train.py", *given]).split())
    return f"# {command.encode(errors='replace').decode()}\n{OmegaConf.to_yaml(config)}"


def recorded_command(folder: Path) -> str:
    """The command that began the run in this folder, and repeats it; "" where its config.yaml does not tell."""
    with (folder / CONFIG).open(encoding="utf-8") as file:
        line = file.readline().strip()
    return line[2:] if line.startswith("# ") else ""


def load_config(file: Path) -> DictConfig:
    """The config that a run was started with.

    Raises:
        UserError: if there is none, or none that can be read.
    """
    try:
        config = OmegaConf.load(file)
        OmegaConf.to_container(config)
    except FileNotFoundError:
        raise UserError(
            f"{file}: there is no such file, so {file.parent} holds no run; choose another folder"
        ) from None
    except (OSError, YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise UserError(f"{file}: it cannot be read ({one_line(error)}); choose another folder") from error
    if not isinstance(config, DictConfig) or "seed" not in config:
        raise UserError(f"{file}: it is no config of a run; choose another folder")
    return config


def trusted_config(
    folder: Path, now: dict[str, Any], allow: Sequence[str], parts: Sequence[str] | None = None
) -> DictConfig:
    """The config that the run in this folder was started with, wherever the folder lies by now.

    Args:
        now: Settings that take the place of the recorded ones.
        allow: Packages, modules or objects of the user's own that it may name.
        parts: Names those of its parts that are to be used, if not all are; the others are left out.

    Raises:
        UserError: if there is no run here, or if its config names what it may not.
    """
    file = folder / CONFIG
    recorded = load_config(file)
    for part in PARTS:
        if not isinstance(recorded.get(part), DictConfig):
            raise UserError(f"{file}: {part} in it holds no settings; choose another folder")
    merged = cast(DictConfig, OmegaConf.merge(recorded, now, {"run_dir": str(folder)}))
    unused = [name for name in merged if isinstance(merged.get(name), DictConfig) and name not in (parts or merged)]
    for name in unused:
        del merged[name]
    check_foreign(merged, folder, allow, str(file))
    return merged
