"""The user's own code that a run uses, and what has changed in it since."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from pytorch_intro.config.paths import PACKAGE, PROJECT

SOURCE = PROJECT / "src"


def hash_code() -> dict[str, str]:
    """Return the SHA-256 of each imported file in the project's src/, by its path there; not of this package."""
    loaded = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name != "__main__"]
    files = [Path(file).resolve() for file in loaded if file]
    ours = {file for file in files if file.is_relative_to(SOURCE.resolve()) and not file.is_relative_to(PACKAGE)}
    return {file.relative_to(SOURCE.resolve()).as_posix(): hash_file(file) for file in sorted(ours)}


def changed_code(before: Mapping[str, str]) -> list[str]:
    """Return the files whose content is no longer that of an earlier hash_code, or that are gone: "src/net.py"."""
    return [f"src/{name}" for name, digest in before.items() if hash_file(SOURCE / name) != digest]


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's text, whatever its line ends are; "" if it cannot be read."""
    try:
        return hashlib.sha256(b"\n".join(file.read_bytes().splitlines())).hexdigest()
    except OSError:
        return ""
