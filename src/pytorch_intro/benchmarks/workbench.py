"""What benchmarks share: the parts that they measure, and how figures are compared and told."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import lightning
import torch
from lightning import Trainer

from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.hardware import device_name

Figures = dict[str, object]


@dataclass
class Workbench:
    """The parts of this project as the config describes them.

    Attributes:
        datamodule: Set up for training.
        device: cuda, mps or cpu.
        make_classifier: A new one, untrained.
        make_trainer: A new one, that writes into a folder.
    """

    datamodule: DataModule
    device: str
    make_classifier: Callable[[], Classifier]
    make_trainer: Callable[[str], Trainer]


def compared(quantity: str, unit: str, **values: list[float]) -> Figures:
    """Print median and spread of each way, and its ratio to the first; the same as a dict.

    Args:
        quantity: What the values are called in the dict.
        unit: Of the values, as it is printed.
        values: Of each way.
    """
    medians = {way: statistics.median(some) for way, some in values.items()}
    first = next(iter(medians.values()))
    width = max(map(len, values))
    for way, some in values.items():
        spread = f"{min(some):.3g} to {max(some):.3g}, n={len(some)}"
        print(f"  {way:<{width}}  {medians[way]:8.3g} {unit} ({spread})   {medians[way] / first:.3g} x", flush=True)
    return {quantity: values, "medians": medians, "ratios": {w: m / first for w, m in medians.items()}}


def environment(accelerator: str) -> dict[str, str]:
    """Where the figures were measured."""
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    return {"device": f"{accelerator}, {device_name(accelerator)}", **versions}
