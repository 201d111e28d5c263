"""Write and read a run's config.yaml."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pytorch_intro.common.errors import UserError, first_lines

CONFIG = "config.yaml"
PARTS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "classifier")
# Settings that do not change what a run computes.
IGNORED_KEYS = ("overwrite", "resume", "outputs", "allow", "run_dir", "sweep", "name")

# Raises a UserError if a config may run code that is not allowed: (config, folder, allow, source).
Verify = Callable[[DictConfig, Path, Sequence[str], str], None]


def to_yaml_with_command(config: DictConfig) -> str:
    """Return the config as YAML, with the command that composed it as a comment on top."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    command = " ".join(shlex.join(["python", "src/train.py", *overrides]).split())
    return f"# {command.encode(errors='replace').decode()}\n{OmegaConf.to_yaml(config)}"


def recorded_command(folder: Path) -> str:
    """Return the command that started the run in this folder, or "" if its config.yaml has none."""
    with (folder / CONFIG).open(encoding="utf-8") as file:
        line = file.readline().strip()
    return line[2:] if line.startswith("# ") else ""


def load_config(file: Path) -> DictConfig:
    """Load the config that a run was started with, or raise a UserError."""
    try:
        config = OmegaConf.load(file)
        content = OmegaConf.to_container(config)
    except FileNotFoundError:
        raise UserError(f"{file}: file not found; use the folder of a run") from None
    except (OSError, YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise UserError(f"{file}: cannot read the config ({first_lines(error)}); use another folder") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in PARTS):
        raise UserError(f"{file}: not the config of a run, which has {', '.join(PARTS)}; use another folder")
    return cast(DictConfig, config)


def trusted_config(
    folder: Path,
    now: dict[str, Any],
    allow: Sequence[str],
    parts: Sequence[str] | None = None,
    verify: Verify | None = None,
) -> DictConfig:
    """Load the config of the run in a folder that may have been moved here from elsewhere.

    Args:
        now: Settings that replace the recorded ones.
        allow: Further packages, modules or objects that the config may name.
        parts: Config groups to keep; None keeps all.
        verify: Check of the config before anything it names is imported: safety.untrusted_config.verify_config.
    """
    file = folder / CONFIG
    config = cast(DictConfig, OmegaConf.merge(load_config(file), now, {"run_dir": str(folder)}))
    if parts is not None:
        for name in [name for name in config if isinstance(config.get(name), DictConfig) and name not in parts]:
            del config[name]
    if verify is not None:
        verify(config, folder, allow, str(file))
    return config
