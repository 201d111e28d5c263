"""OmegaConf resolvers of the configs: project, package, epochs_for_data, output_dir, new_run_dir, new_sweep_dir."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from pytorch_intro.common.distributed import is_distributed_launch
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PACKAGE, PROJECT, display_path

_RESERVED = re.compile(r"sweeps|bench|latest|\d{4}-\d\d-\d\d", re.IGNORECASE)  # some file systems ignore case


def register_resolvers(more: Mapping[str, Callable[..., Any]] | None = None) -> None:
    """Register the resolvers, and further ones by name; each is called once per config, as some create a folder."""
    OmegaConf.register_new_resolver("project", lambda path: literal_path(PROJECT / path), replace=True)
    OmegaConf.register_new_resolver("package", lambda path: literal_path(PACKAGE / path), replace=True)
    OmegaConf.register_new_resolver("epochs_for_data", epochs_for_data, replace=True)
    OmegaConf.register_new_resolver("output_dir", output_dir, replace=True)
    for name, resolver in {"new_run_dir": new_run_dir, "new_sweep_dir": new_sweep_dir, **(more or {})}.items():
        OmegaConf.register_new_resolver(name, resolver, use_cache=True, replace=True)


def epochs_for_data(default: int, *, _root_: Any) -> int | Literal["auto"]:
    """Return the value of trainer.max_epochs: auto for data with a minimum number of steps, else the default."""
    return "auto" if OmegaConf.select(_root_, "data.min_steps") else default


def output_dir() -> str:
    """Return the folder of the run, which Hydra creates."""
    runtime: Any = OmegaConf.to_container(HydraConfig.get().runtime, resolve=False)
    return literal_path(runtime["output_dir"])


def literal_path(path: str | Path) -> str:
    """Return a path in which OmegaConf finds no interpolation: a relative one, if a folder above is named such as ${x}.

    An escaped path would not help: each time OmegaConf or Hydra copies a resolved value, it parses the value again.
    """
    text = display_path(path) if "${" in str(path) else str(path)
    if "${" in text:
        raise UserError(f"{path}: ${{ in a path starts an interpolation; run the command in {PROJECT}, or rename it")
    return text


def new_run_dir(outputs: str, name: str | int | None, resume: str | None = None) -> str:
    """Return the folder of a run: outputs/<name>, a new outputs/<date>/<time> without a name, or the one to resume.

    A new folder is created immediately, so that two runs started in the same second get different ones.
    """
    if resume is not None:
        if not (Path(resume) / "config.yaml").is_file():
            raise UserError(f"resume={resume}: not a run folder (no config.yaml); use an existing one")
        return str(resume)
    if name is not None:
        return str(Path(outputs) / checked_name(str(name)))
    if is_distributed_launch():
        raise UserError("name: required for distributed training, whose ranks share a folder; set name=NAME")
    return str(make_unique_dir(Path(outputs) / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")))


def new_sweep_dir(outputs: str, name: str | int | None) -> str:
    """Return the folder of a sweep: outputs/sweeps/<name>, or a new outputs/sweeps/<date>_<time>."""
    if name is not None:
        return str(Path(outputs) / "sweeps" / checked_name(str(name)))
    return str(make_unique_dir(Path(outputs) / "sweeps" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))


def checked_name(name: str) -> str:
    """Return the name of a run or sweep, or raise a UserError."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+=,-]*", name, re.ASCII) or _RESERVED.fullmatch(name):
        raise UserError(
            f"name={name!r}: not a valid folder name; use letters, digits and ._+=,- with a letter or digit first, and "
            "not sweeps, bench, latest or a date"
        )
    return name


def make_unique_dir(wanted: Path) -> Path:
    """Create the folder `wanted`, or wanted-2, wanted-3, … if it exists."""
    attempt, path = 1, wanted
    while True:
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
            return path
        except OSError as error:
            if not path.is_dir():
                raise UserError(f"outputs: cannot create {path} ({error}); use another outputs=DIR") from error
            attempt += 1
            path = wanted.with_name(f"{wanted.name}-{attempt}")
