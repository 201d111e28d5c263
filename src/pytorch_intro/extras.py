"""Packages that only some commands take: are they installed?"""

import importlib.util
from collections.abc import Sequence

from pytorch_intro.errors import UserError

# What Hydra's plugins for sweeps take, by the modules where these are.
OF_PLUGINS = {
    "hydra_plugins.optuna_sweeper": ("hydra/sweeper=optuna", ("optuna",), "search"),
    "hydra_plugins.ray_launcher": ("hydra/launcher=ray", ("ray", "hydra_plugins.hydra_ray_launcher"), "scale"),
    "hydra_plugins.slurm_launcher": (
        "hydra/launcher=slurm", ("submitit", "hydra_plugins.hydra_submitit_launcher"), "scale",
    ),
}  # fmt: skip


def check_installed(purpose: str, packages: Sequence[str], extra: str) -> None:
    """Look for packages without importing them.

    Args:
        purpose: What takes them.
        extra: Names the requirements file that holds them.

    Raises:
        UserError: if one is missing, with the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(name.rpartition(".")[2] for name in missing)
        raise UserError(f"{purpose}: {names} is not installed; pip install -r requirements-{extra}.txt")


def check_plugin(target: str) -> None:
    """Look for the packages that a sweeper or launcher of Hydra's takes, by its `_target_`."""
    for module, needs in OF_PLUGINS.items():
        if target.startswith(f"{module}."):
            check_installed(*needs)
