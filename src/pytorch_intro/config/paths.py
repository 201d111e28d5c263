"""Paths of the project."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
CONFIG_DIR = PROJECT / "conf"


def display_path(path: str | Path) -> str:
    """Return a path relative to the working directory, or as it is if that is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)
