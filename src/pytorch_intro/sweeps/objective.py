"""What jobs are ranked by: a figure of result.json that the test images have no part in."""

from typing import Literal

Objective = Literal["val/accuracy", "val/loss", "train_seconds", "total_seconds", "images_per_second"]

HIGH_IS_GOOD = ("val/accuracy", "images_per_second")


def is_maximized(objective: str) -> bool:
    return objective in HIGH_IS_GOOD
