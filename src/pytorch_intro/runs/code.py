"""The user's own code that a run uses, and what has changed in it since."""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pytorch_intro.config.paths import IS_CLONE, PACKAGE, PROJECT

SOURCE = PROJECT / "src"


def hash_code() -> dict[str, str]:
    """Return the SHA-256 of each imported file in the project's src/, by its path there; not of this package."""
    loaded = {getattr(module, "__file__", None) or "" for name, module in [*sys.modules.items()] if name != "__main__"}
    # As text: to resolve the paths of thousands of modules takes a third of a second.
    files = sorted(Path(file) for file in loaded if file.startswith(f"{SOURCE}{os.sep}"))
    return {file.relative_to(SOURCE).as_posix(): hash_file(file) for file in files if not is_of_package(file)}


def is_of_package(file: Path) -> bool:
    """Return whether a file in src/ comes with this package: in a clone, also the scripts and Hydra's plugins."""
    is_script_or_plugin = file.parent.name == "hydra_plugins" or (PACKAGE / "commands" / file.name).exists()
    return file.is_relative_to(PACKAGE) or (IS_CLONE and is_script_or_plugin)


def changed_code(before: Mapping[str, str]) -> list[str]:
    """Return the files whose content is no longer that of an earlier hash_code, or that are gone: "src/net.py"."""
    return [f"src/{name}" for name, digest in before.items() if hash_file(SOURCE / name) != digest]


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's text, whatever its line ends are; "" if it cannot be read."""
    try:
        return hashlib.sha256(b"\n".join(file.read_bytes().splitlines())).hexdigest()
    except OSError:
        return ""
