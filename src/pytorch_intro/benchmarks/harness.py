"""Shared code of the benchmarks: their context, alternating measurements, processes, and printed comparisons."""

import contextlib
import io
import logging
import os
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from pytorch_intro.analysis import plots
from pytorch_intro.cli.python_api import compose
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import process_arguments
from pytorch_intro.training.hardware import device_name, synchronize
from pytorch_intro.training.trainer import build_trainer

Figures = dict[str, object]


@dataclass
class BenchmarkContext:
    """Config and hardware of a benchmark.

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

    def build_trainer(self, folder: str) -> Trainer:
        """Build a trainer that writes to a folder."""
        config = OmegaConf.merge(self.config, {"run_dir": folder})
        return build_trainer(config.trainer, config.callbacks, config.logger, self.hardware)

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command line of a script on the same device."""
        return [*process_arguments(script), f"trainer.accelerator={self.device}", *arguments]


def time_alternately(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each variant, timed in rounds, so that a machine that slows down affects all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in tqdm(range(rounds), "rounds", leave=False):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_comparison(quantity: str, unit: str, **values: list[float]) -> Figures:
    """Print the median, the range and the ratio to the first of each variant; return them as a dict.

    Args:
        quantity: Key of the values in the dict.
        unit: Unit of the values.
        values: Measurements of each variant.
    """
    medians = {name: statistics.median(measured) for name, measured in values.items()}
    first = next(iter(medians.values()))
    ratios = {name: median / first for name, median in medians.items()}
    width = max(map(len, values))
    for name, measured in values.items():
        spread = f"{to_text(min(measured))} to {to_text(max(measured))}, n={len(measured)}"
        print(f"  {name:<{width}}  {to_text(medians[name]):>8} {unit} ({spread})   {ratios[name]:.3g} x", flush=True)
    return {quantity: values, "medians": medians, "ratios": ratios}


def find_comparisons(figures: Mapping[str, Any], title: str = "") -> dict[str, Mapping[str, Any]]:
    """Return the results of print_comparison in the figures of a benchmark, by their key."""
    found = {title: figures} if {"medians", "ratios"} <= figures.keys() else {}
    for name, part in figures.items():
        found |= find_comparisons(part, name) if isinstance(part, dict) else {}
    return found


def plot_comparisons(comparisons: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Plot the medians of results of print_comparison as bars, with their ratios to the first of each."""
    heights = [len(part["medians"]) + 1 for part in comparisons.values()]
    figure = plots.new_figure(figsize=(8, 0.5 + 0.4 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), squeeze=False, height_ratios=heights)
    for axes, (title, part) in zip(grid[:, 0], comparisons.items(), strict=True):
        medians = part["medians"]
        bars = axes.barh([*medians], [*medians.values()], color=["gray", *["C0"] * (len(medians) - 1)])
        labels = [f"{to_text(median)}, {part['ratios'][name]:.3g} x" for name, median in medians.items()]
        axes.bar_label(bars, labels, padding=3)
        axes.set(title=title, xlabel=next(iter(part)).replace("_", " "))
        axes.margins(x=0.25)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    plots.save(plots.as_image(figure), file)


def to_text(value: float) -> str:
    """Format a number with three digits, or without decimals if it is larger."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def check_arguments(variants: Iterable[Sequence[str]]) -> None:
    """Raise a UserError if the config of a variant cannot be composed, before any of them is trained."""
    for arguments in variants:
        compose("train", arguments)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log lines and stdout."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def environment(accelerator: str) -> dict[str, str]:
    """Return the device and the versions of the libraries."""
    versions = {"torch": torch.__version__, "lightning": lightning.__version__}
    threads = torch.get_num_threads()
    return {"device": f"{accelerator}, {device_name(accelerator)}, {threads} threads", **versions}


class Process(NamedTuple):
    """Wall time in seconds, peak resident memory in bytes, and stdout of a process."""

    seconds: float
    memory: int
    output: str


def run_process(command: Sequence[str], stderr: int | None = None, timeout: float | None = None) -> Process:
    """Run a command and measure it.

    Args:
        command: Program and arguments.
        stderr: Passed to subprocess.Popen.
        timeout: Seconds after which it is killed.

    Raises:
        UserError: if it ends with exit code 2, after an error line of its own.
        RuntimeError: if it fails otherwise.
        subprocess.TimeoutExpired: if it was killed.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        limit = threading.Timer(timeout or threading.TIMEOUT_MAX, process.kill)
        limit.daemon = True
        limit.start()
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        limit.cancel()
    if timeout and process.returncode == -signal.SIGKILL and time.perf_counter() - started >= timeout:
        raise subprocess.TimeoutExpired(command, timeout)
    if process.returncode == 2:
        raise UserError(f"{shlex.join(command)}: refused, see its error above; change the settings of the benchmark")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    return Process(time.perf_counter() - started, usage.ru_maxrss * unit, output)
