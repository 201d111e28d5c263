"""Paths of the project, and the folders of new runs and sweeps."""

import os
import re
from datetime import datetime
from pathlib import Path

from pytorch_intro.common.distributed import is_distributed_launch
from pytorch_intro.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[3]
CONFIG_DIR = PROJECT / "conf"

_RESERVED = re.compile(r"sweeps|bench|\d{4}-\d\d-\d\d")


def new_run_dir(outputs: str, name: str | int | None, resume: str | None = None) -> str:
    """Return the folder of a run: outputs/<name>, a new outputs/<date>/<time> without a name, or the one to resume.

    A new folder is created immediately, so that two runs started in the same second get different ones.

    Raises:
        UserError: if the name is not a valid folder name, if `resume` is not a run folder, or if the run has no name
            and several ranks were launched, each of which would create a folder.
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
            "not sweeps, bench or a date"
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


def display_path(path: str | Path) -> str:
    """Return a path relative to the working directory, or as it is if that is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def is_searched_for_runs(path: Path) -> bool:
    """Return whether a folder, relative to outputs, may be a run: not a benchmark, and not an archived run."""
    return path.parts[:1] != ("bench",) and not any(part.startswith(".") for part in path.parts)


def checked_root(root: str) -> Path:
    """Return the data root, or raise a UserError; only the default is created if missing."""
    if not root:
        raise UserError("data.root= is empty; set data.root=DIR")
    path = Path(root)
    try:
        if path == PROJECT / "data":
            path.mkdir(exist_ok=True)
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"data.root={root}: {error}; set data.root=DIR") from error
    if not is_folder and path.exists():
        raise UserError(
            f"data.root={root}: is a file, not a folder; unpack it if it is an archive, then set data.root=DIR"
        )
    if not is_folder:
        raise UserError(f"data.root={root}: no such folder; create it, or set data.root=DIR")
    return path
