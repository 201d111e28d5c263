"""Write and read a run's config.yaml, and the settings that resume=DIR has changed since, in config_extended.yaml."""

import itertools
import shlex
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.common.files import write_atomically
from pytorch_intro.config.paths import command_line
from pytorch_intro.config.resolvers import literal_path

CONFIG, EXTENDED = "config.yaml", "config_extended.yaml"
RUN_ID = "# run ID "
PARTS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger", "classifier")
# Settings that resume=DIR may change: how long, with which callbacks and where the run is trained. A checkpoint holds
# the state of everything else.
CHANGEABLE = (
    "trainer", "callbacks", "logger",
    "data.root", "data.cache_dir", "data.num_workers", "data.on_device", "data.in_memory",
)  # fmt: skip
# Settings that do not change what a run computes.
IGNORED_KEYS = ("overwrite", "resume", "outputs", "allow", "run_dir", "sweep", "name", "find")

# Raises a UserError if a config may run code that is not allowed: (config, folder, allow, source).
Verify = Callable[[DictConfig, Path, Sequence[str], str], None]


class Extension(NamedTuple):
    """An entry of config_extended.yaml."""

    command: str  # that changed the settings
    settings: dict[str, Any]  # new values by dotted key


def current_command() -> str:
    """Return the command line of this process, on one line."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    command = " ".join(shlex.join([*command_line("train"), *overrides]).split())
    return command.encode(errors="replace").decode()


def to_yaml_with_command(config: DictConfig) -> str:
    """Return the config as YAML, with the command that composed it and a new run ID as comments on top."""
    return f"# {current_command()}\n{RUN_ID}{uuid.uuid4().hex[:16]}\n{OmegaConf.to_yaml(config)}"


def run_id(folder: Path) -> str | None:
    """Return the ID of the run in this folder, which its checkpoints have too; None if it has none."""
    try:
        with (folder / CONFIG).open(encoding="utf-8") as file:
            line = next(itertools.islice(file, 1, None), "")
    except (OSError, UnicodeDecodeError):
        return None
    return line.removeprefix(RUN_ID).strip() if line.startswith(RUN_ID) else None


def recorded_command(folder: Path) -> str:
    """Return the command that started the run in this folder, if recorded; those that extended it follow after &&."""
    with (folder / CONFIG).open(encoding="utf-8") as file:
        line = file.readline().strip()
    started = [line[2:]] if line.startswith("# ") else []
    return " && ".join([*started, *(extension.command for extension in load_extensions(folder))])


def load_extensions(folder: Path) -> list[Extension]:
    """Return the changes of settings since the run was started, oldest first, or raise a UserError."""
    file = folder / EXTENDED
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
        return [Extension(str(entry["command"]), dict(entry["settings"])) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, yaml.YAMLError, RecursionError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot be read ({first_lines(error)}); use another folder") from error


def record_extension(folder: Path, settings: dict[str, Any]) -> None:
    """Append changed settings, by dotted key, to config_extended.yaml."""
    entries = [*load_extensions(folder), Extension(current_command(), settings)]
    text = yaml.safe_dump([entry._asdict() for entry in entries], sort_keys=False, allow_unicode=True)
    write_atomically(folder / EXTENDED, f"# settings changed by resume=DIR since config.yaml was written\n{text}")


def change_settings(config: DictConfig, settings: dict[str, Any]) -> None:
    """Set new values by dotted key; they replace whole nodes."""
    for key, value in settings.items():
        OmegaConf.update(config, str(key), value, merge=False, force_add=True)


def load_config(file: Path) -> DictConfig:
    """Load the config that a run was started with, with the settings changed since, or raise a UserError."""
    try:
        config = cast(DictConfig, OmegaConf.load(file))
        for extension in load_extensions(file.parent):
            change_settings(config, extension.settings)
        content = OmegaConf.to_container(config)
    except FileNotFoundError:
        raise UserError(f"{file}: file not found; use the folder of a run") from None
    except (OSError, yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        raise UserError(f"{file}: cannot read the config ({first_lines(error)}); use another folder") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in PARTS):
        raise UserError(f"{file}: not the config of a run, which has {', '.join(PARTS)}; use another folder")
    upgrade(config)
    return config


def upgrade(config: DictConfig) -> None:
    """Move the label smoothing of a run that was recorded before there was a config group `loss`, in place."""
    if "label_smoothing" in config.classifier:
        smoothing = config.classifier.pop("label_smoothing")
        config.loss = {"_target_": "pytorch_intro.training.losses.CrossEntropy", "label_smoothing": smoothing}


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
        verify: Check of the config before its objects are built: safety.untrusted_config.verify_config.
    """
    file = folder / CONFIG
    config = cast(DictConfig, OmegaConf.merge(load_config(file), now, {"run_dir": literal_path(folder)}))
    if parts is not None:
        for name in [name for name in config if isinstance(config.get(name), DictConfig) and name not in parts]:
            del config[name]
    if verify is not None:
        verify(config, folder, allow, str(file))
    return config
