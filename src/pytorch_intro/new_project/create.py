"""Create a project of the user's own from the files in template/, which are a project named my_project."""

import json
import keyword
import re
import shlex
import shutil
import sys
import unicodedata
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.version import __version__
from pytorch_intro.config.groups import choices
from pytorch_intro.config.paths import CLONE, USED_PACKAGES

TEMPLATE_NAME = "my_project"
SOURCES = Path(__file__).parent


def create_project(folder: Path, name: str, data: Path | None = None) -> list[Path]:
    """Write the files of a new project and return their paths.

    Args:
        folder: New or empty folder.
        name: Name of the package in src/ and of the choices in conf/; see check_name.
        data: Folder of images, one subfolder per class; None: the sample of Fashion-MNIST, by a Dataset in src/.

    Raises:
        UserError: if the folder is not empty or cannot be written. Nothing is overwritten or left behind.
    """
    check_folder(folder)
    replacements = {
        TEMPLATE_NAME: name,
        "intro>=0.0.0": f"intro>={__version__}",
        "DATA_FOLDER": json.dumps(str(data), ensure_ascii=False),
    }
    pattern = re.compile("|".join(replacements))

    def fill_in(text: str) -> str:
        return pattern.sub(lambda match: replacements[match[0]], text)

    files = template_files("template") | template_files("template_sample" if data is None else "template_folder")
    texts = {folder / fill_in(path): fill_in(text) for path, text in files.items()}
    if settings := machine_settings():
        texts[folder / "local.mk"] = settings
    written = [folder] if not folder.exists() else [folder / name for name in {Path(path).parts[0] for path in files}]
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except BaseException as error:
        for path in written:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.unlink()
        if isinstance(error, OSError):
            raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
        raise
    return sorted(texts)


def check_folder(folder: Path) -> None:
    """Raise a UserError unless the folder is missing or empty; the .git of a new repository may be there."""
    if folder.is_symlink() or folder.exists():
        if not folder.is_dir():
            raise UserError(f"{folder}: a file; choose a new folder")
        if {path.name for path in folder.iterdir()} - {".git"}:
            raise UserError(f"{folder}: not empty; choose a new folder")


def derive_name(folder: Path) -> str:
    """Return the name of a project from that of its folder: "My Shoes (2)" becomes my_shoes_2.

    Raises:
        UserError: if no valid name can be derived.
    """
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_").lower()
    try:
        return check_name(name)
    except UserError as error:
        raise UserError(f"{folder}: cannot be the name of a project ({error}); add --name NAME") from error


def check_name(name: str) -> str:
    """Return the name; raise a UserError unless it can be that of a package in src/ and of choices in conf/."""
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise UserError(f"{name!r} is not a Python name; use letters, digits and _ with a letter first")
    if not is_read_as_text(name):
        raise UserError(f"{name!r} is not text in YAML or on the command line; use another name")
    if name in {*sys.stdlib_module_names, *USED_PACKAGES, *packages_distributions()}:
        raise UserError(f"{name!r} would hide the installed module {name}; use another name")
    for group in ("data", "model", "experiment"):
        if name in {file.stem for file in choices(group)}:
            raise UserError(f"{name!r} would hide the built-in choice {group}={name}; use another name")
    return name


def is_read_as_text(name: str) -> bool:
    """Return whether configs and the command line read a name as text: in YAML, on is a boolean."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # 0.3 s, which --help does not need
    from omegaconf import OmegaConf

    (given,) = OverridesParser.create().parse_overrides([f"model={name}"])
    return bool(given.value() == name == OmegaConf.create(f"model: {name}").model)


def template_files(folder: str) -> dict[str, str]:
    """Return the texts of a template by relative path; Git would obey a .gitignore, so it has no dot there."""
    paths = [path for path in (SOURCES / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    names = [path.relative_to(SOURCES / folder).as_posix().replace("gitignore", ".gitignore") for path in paths]
    return {name: path.read_text(encoding="utf-8") for name, path in zip(names, paths, strict=True)}


def machine_settings() -> str:
    """Return what local.mk has to contain so that make finds this Python and this package; "" if nothing."""
    found = shutil.which("python3")
    is_on_path = found is not None and Path(found).parent == Path(sys.executable).parent
    lines = [] if is_on_path else [f"PYTHON := {make_text(shlex.quote(sys.executable))}"]
    if CLONE:  # not installed
        lines += [f"export PYTHONPATH := {make_text(str(CLONE / 'src'))}"]
    return "".join(f"{line}\n" for line in lines)


def make_text(text: str) -> str:
    """Return a text as a value in a makefile."""
    return text.replace("$", "$$").replace("#", r"\#")
