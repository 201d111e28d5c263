"""The value that the jobs of a sweep are ranked by: a key of result.json that does not depend on the test images."""

from typing import Literal

from omegaconf import DictConfig

from pytorch_intro.check import check_nodes

Objective = Literal["val/accuracy", "val/loss", "train_seconds", "total_seconds", "images_per_second"]

HIGH_IS_GOOD = ("val/accuracy", "images_per_second")


def is_maximized(objective: str) -> bool:
    return objective in HIGH_IS_GOOD


def check_settings(sweep: DictConfig) -> None:
    """Validate the config node `sweep`.

    Raises:
        UserError: for an unknown key or a wrong value.
    """
    check_nodes(sweep, "sweep", {"sweep.objective": Objective, "sweep.fail_fast": bool})
