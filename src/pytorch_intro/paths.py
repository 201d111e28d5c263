"""Where things lie: the project's own folders, and the folder that a new run may call its own."""

import os
import re
from datetime import datetime
from pathlib import Path

from pytorch_intro.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
CONFIG_DIR = PROJECT / "conf"

_RESERVED = re.compile(r"sweeps|bench|\d{4}-\d\d-\d\d")


def new_run_dir(outputs: str, name: str | int | None, resume: str | None = None) -> str:
    """The folder of a run: outputs/<name>, or a fresh outputs/<date>/<time> when it has no name; or one to carry on.

    The fresh folder is made here and at once, since only the making tells two runs of the same second apart.

    Raises:
        UserError: if the name would leave the outputs folder or take one that is used otherwise, if there is no run to
            carry on, or if processes that were started from outside would make one each.
    """
    if resume is not None:
        if not (Path(resume) / "config.yaml").is_file():
            raise UserError(f"resume={resume}: there is no config.yaml, so it is no run's folder; choose another")
        return str(resume)
    if name is not None:
        return str(Path(outputs) / checked_name(str(name)))
    if is_one_of_several():
        raise UserError("name: several processes train together, and need one folder; give it a name by name=NAME")
    return str(fresh_dir(Path(outputs) / datetime.now().strftime("%Y-%m-%d/%H-%M-%S")))


def new_sweep_dir(outputs: str, name: str | int | None) -> str:
    """The folder of a sweep: outputs/sweeps/<name>, or a fresh outputs/sweeps/<date>_<time>.

    Raises:
        UserError: as new_run_dir.
    """
    if name is not None:
        return str(Path(outputs) / "sweeps" / checked_name(str(name)))
    return str(fresh_dir(Path(outputs) / "sweeps" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")))


def is_one_of_several() -> bool:
    """Whether torchrun, SLURM or, on several machines, the user has started this process beside others."""
    return any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.+=,-]*", name, re.ASCII) or _RESERVED.fullmatch(name):
        raise UserError(
            f"name={name!r}: a run's name is one folder's name: letters, digits and ._+=,- beginning with a letter "
            "or digit, and not sweeps, bench or a date"
        )
    return name


def shown_path(path: str | Path) -> str:
    """A path as it is told: from the working directory, unless that is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def is_searched_for_runs(path: Path) -> bool:
    """Whether a folder, told from the outputs, may be a run's: no benchmark's, and none that was put aside."""
    return path.parts[:1] != ("bench",) and not any(part.startswith(".") for part in path.parts)


def fresh_dir(wanted: Path) -> Path:
    """Make the wanted folder, or wanted-2, wanted-3, … if it is there already."""
    attempt, path = 1, wanted
    while True:
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
            return path
        except OSError as error:
            if not path.is_dir():
                raise UserError(
                    f"outputs: {path} cannot be made ({error}); choose another folder by outputs=DIR"
                ) from error
            attempt += 1
            path = wanted.with_name(f"{wanted.name}-{attempt}")


def checked_root(root: str) -> Path:
    """The data root. The project's own is made when missing; any other that is missing is more likely misspelt.

    Raises:
        UserError: if it is no folder.
    """
    if not root:
        raise UserError("data.root: it is empty; give a folder by data.root=DIR")
    path = Path(root)
    try:
        if path == PROJECT / "data":
            path.mkdir(exist_ok=True)
        if not path.is_dir():
            raise UserError(f"data.root={root}: there is no such folder; make it, or give another by data.root=DIR")
    except OSError as error:
        raise UserError(f"data.root={root}: {error}; give another folder by data.root=DIR") from error
    return path
