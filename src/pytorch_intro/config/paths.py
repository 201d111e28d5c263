"""Where the code, the built-in configs and the user's project are; how to start a command there.

A clone of the repository has all of them. Where the package is installed, the project is a folder of the user's with a
conf/, and possibly a src/; built-in configs are part of the package.
"""

import os
import re
import sys
from pathlib import Path

from pytorch_intro.common.errors import UserError, first_lines
from pytorch_intro.common.version import __version__

PACKAGE = Path(__file__).resolve().parents[1]
CLONE = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
CONFIG_DIR = (CLONE or PACKAGE) / "conf"
PROJECT_VARIABLE = "PYTORCH_INTRO_PROJECT"  # environment variable: the project, whatever the working directory is

# Packages that a module of the same name in the project's src/ would replace, besides Python's own.
USED_PACKAGES = (
    "filelock", "hydra", "lightning", "matplotlib", "numpy", "omegaconf", "packaging", "PIL", "pydantic",
    "pytest", "pytorch_intro", "tensorboard", "torch", "torchmetrics", "torchvision", "tqdm", "yaml",
)  # fmt: skip


def find_project() -> Path:
    """Return the folder that data/, outputs/, conf/ and src/ belong to.

    That is the clone if one of its scripts was started; else the working directory or its nearest parent with a conf/.
    """
    if CLONE and Path(sys.argv[0]).resolve().parent == CLONE / "src":
        return CLONE
    if folder := os.environ.get(PROJECT_VARIABLE):
        return Path(folder).resolve()
    here = Path.cwd()
    return project_around(here) or CLONE or here


def project_around(folder: Path) -> Path | None:
    """Return the folder itself or its nearest parent that is a project: one with a conf/."""
    return next((place for place in (folder, *folder.parents) if (place / "conf").is_dir()), None)


PROJECT = find_project()
IS_CLONE = PROJECT == CLONE


def command_line(name: str) -> list[str]:
    """Return the words that a user types in the project to start a command."""
    return ["python", f"src/{name}.py"] if IS_CLONE else ["pytorch-intro", name]


def with_commands(text: str) -> str:
    """Return a text about a clone, `python src/train.py` or requirements-scale.txt, in the words of this project."""
    if IS_CLONE:
        return text
    text = re.sub(r"python src/(\w+)\.py", r"pytorch-intro \1", text)  # of the same length
    text = re.sub(r"-r requirements-(\w+)\.txt", r"'pytorch-intro[\1]'", text)
    return re.sub(r"requirements-(\w+)\.txt", r"pytorch-intro[\1]", text)


def process_arguments(name: str) -> list[str]:
    """Return program and arguments that start a command in a new process, from any working directory."""
    return [sys.executable, *([str(PROJECT / "src" / f"{name}.py")] if IS_CLONE else ["-m", "pytorch_intro", name])]


def open_project() -> None:
    """Check that the project is for this version, and make the modules in its src/ importable for configs.

    Raises:
        UserError: if it needs another version, or if a module has the name of one that this package needs.
    """
    if IS_CLONE or not (PROJECT / "conf").is_dir():
        return
    check_version(PROJECT / "pyproject.toml")
    source = PROJECT / "src"
    if not source.is_dir() or str(source) in sys.path:
        return
    for path in sorted(source.iterdir()):
        if path.suffix in ("", ".py") and path.stem in (*sys.stdlib_module_names, *USED_PACKAGES):
            remedy = "in a clone, use python src/train.py" if path.stem == "pytorch_intro" else "rename it"
            raise UserError(f"{path}: hides the module {path.stem} of Python or of a package; {remedy}")
    sys.path.insert(0, str(source))


def check_version(file: Path) -> None:
    """Raise a UserError if the dependencies in a pyproject.toml exclude the installed version of this package."""
    if not file.is_file():
        return
    from packaging.requirements import InvalidRequirement, Requirement

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        needed = [Requirement(text) for text in content.get("project", {}).get("dependencies", [])]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidRequirement) as error:
        raise UserError(f"{file}: not valid ({first_lines(error)}); correct it") from error
    for requirement in needed:
        is_this = requirement.name.lower().replace("_", "-") == "pytorch-intro"
        if is_this and not requirement.specifier.contains(__version__, prereleases=True):
            raise UserError(
                f"{file}: the project needs pytorch-intro{requirement.specifier}, but {__version__} is installed; "
                "install a version that fits, or change this requirement"
            )


def display_path(path: str | Path) -> str:
    """Return a path relative to the working directory, or as it is if that is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)
