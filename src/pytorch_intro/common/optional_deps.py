"""Check for packages that only some commands need."""

import importlib.util
from collections.abc import Sequence

from pytorch_intro.common.errors import UserError


def check_installed(feature: str, packages: Sequence[str], extra: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        feature: Name of what needs them, for the error.
        packages: Import names.
        extra: Suffix of the requirements file that lists them.

    Raises:
        UserError: If one is missing, with the command that installs it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(name.rpartition(".")[2] for name in missing)
        raise UserError(f"{feature}: {names} is not installed; pip install -r requirements-{extra}.txt")
