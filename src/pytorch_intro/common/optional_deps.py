"""Check for packages that only some commands need."""

import importlib.util
from collections.abc import Sequence

from pytorch_intro.common.errors import UserError


def check_installed(feature: str, packages: Sequence[str], extra: str) -> None:
    """Raise a UserError if a package is missing, without importing any.

    Args:
        feature: Name of what needs the packages, for the error.
        packages: Import names.
        extra: Suffix of the requirements file that lists them.
    """
    missing = [name.rpartition(".")[2] for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{feature}: {', '.join(missing)} not installed; run pip install -r requirements-{extra}.txt")
