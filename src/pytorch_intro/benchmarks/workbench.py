"""What benchmarks share: the parts that they measure, and how figures are taken, compared and told."""

import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
        device: cuda, mps or cpu.
        file: Will hold the figures; what else is kept has its name.
        make_datamodule: A new one, set up for training.
        make_classifier: A new one, untrained.
        make_trainer: A new one, that writes into a folder.
    """

    device: str
    file: Path
    make_datamodule: Callable[[], DataModule]
    make_classifier: Callable[[DataModule], Classifier]
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
        spread = f"{shown(min(some))} to {shown(max(some))}, n={len(some)}"
        ratio = medians[way] / first
        print(f"  {way:<{width}}  {shown(medians[way]):>8} {unit} ({spread})   {ratio:.3g} x", flush=True)
    return {quantity: values, "medians": medians, "ratios": {w: m / first for w, m in medians.items()}}


def shown(value: float) -> str:
    """A figure to three digits, or to the whole where it has more."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is measured does not speak between the figures: nothing is logged, and what it draws is not seen."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def environment(accelerator: str) -> dict[str, str]:
    """Where the figures were measured."""
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    return {"device": f"{accelerator}, {device_name(accelerator)}", **versions}


class Process(NamedTuple):
    """What a process took, and what it said.

    Attributes:
        seconds: From its start to its end.
        memory: Its largest resident memory, in bytes.
        output: On stdout.
    """

    seconds: float
    memory: int
    output: str


def run_process(command: Sequence[str], stderr: int | None = None) -> Process:
    """Run a command to its end.

    Args:
        stderr: As subprocess has it.

    Raises:
        RuntimeError: if it fails.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return Process(time.perf_counter() - started, usage.ru_maxrss * unit, output)
