"""What benchmarks share: the objects that they measure, processes with their cost, and printed comparisons."""

import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training.classifier import Classifier
from pytorch_intro.training.hardware import device_name
from pytorch_intro.training.setup import build_classifier, build_datamodule
from pytorch_intro.training.trainer import build_trainer

Figures = dict[str, object]


@dataclass
class BenchmarkContext:
    """What a benchmark measures: the objects of a config, built as often as needed.

    Attributes:
        config: Config of the benchmark.
        hardware: Accelerator and precision, as resolve_hardware returns them.
        file: Path of the figures; other outputs use the same name with another suffix.
    """

    config: DictConfig
    hardware: dict[str, Any]
    file: Path

    @property
    def device(self) -> str:
        """cuda, mps or cpu."""
        return self.hardware["accelerator"]

    def make_datamodule(self) -> DataModule:
        """Build a data module with loaded images."""
        return build_datamodule(self.config)

    def make_classifier(self, datamodule: DataModule) -> Classifier:
        """Build an untrained classifier."""
        return build_classifier(self.config, datamodule)

    def make_trainer(self, folder: str) -> Trainer:
        """Build a trainer that writes to a folder."""
        config = OmegaConf.merge(self.config, {"run_dir": folder})
        return build_trainer(config.trainer, config.callbacks, config.logger, self.hardware)


def print_comparison(quantity: str, unit: str, **values: list[float]) -> Figures:
    """Print the median, the range and the ratio to the first of each variant; return them as a dict.

    Args:
        quantity: Key of the values in the dict.
        unit: Unit of the values.
        values: Measurements of each variant.
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
    """Format a number with three digits, or without decimals if it is larger."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log lines and stdout of what is measured."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def environment(accelerator: str) -> dict[str, str]:
    """Return the device and the versions of the libraries."""
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    return {"device": f"{accelerator}, {device_name(accelerator)}", **versions}


class Process(NamedTuple):
    """Cost and output of a process.

    Attributes:
        seconds: Wall time.
        memory: Peak resident memory in bytes.
        output: Text written to stdout.
    """

    seconds: float
    memory: int
    output: str


def run_process(command: Sequence[str], stderr: int | None = None) -> Process:
    """Run a command and measure it.

    Args:
        command: Program and arguments.
        stderr: Passed to subprocess.Popen.

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
