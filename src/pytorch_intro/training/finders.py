"""Find a learning rate or a batch size by short trainings, which leave nothing behind.

They have their own network, optimizer, data module and trainer. The run that follows seeds all random number generators
again, so that it is the one with the number that was found, bit for bit.
"""

import copy
import gc
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pytorch_intro.common.errors import UserError
from pytorch_intro.training.callbacks.nan_guard import TerminateOnNaN
from pytorch_intro.training.hardware import synchronize
from pytorch_intro.training.lightning_internals import callbacks
from pytorch_intro.training.setup import build_experiment
from pytorch_intro.training.trainer import build_trainer

log = logging.getLogger(__name__)

MIN_LR, MAX_LR, NUM_STEPS = 1e-5, 10.0, 120  # of the range test
SMOOTHING = 9  # steps of a moving average
DIVERGED = 3.0  # times the lowest loss

MIN_SIZE, MAX_SIZE = 16, 4096  # of a batch on the CPU
MIN_STEPS = 10  # per epoch
SECONDS = 0.5  # of steps that are timed per batch size, on the CPU
TOLERANCE = 0.05  # a smaller batch is preferred to one that is faster by less
HEADROOM = 0.1  # share of the GPU's memory that stays free


class LearningRates(NamedTuple):
    """Result of a range test."""

    rates: list[float]
    losses: list[float]  # smoothed
    steepest: float  # rate at which the loss falls fastest
    lowest: float  # rate of the lowest loss

    @property
    def suggestion(self) -> float:
        """Half of the rate of the lowest loss: at the steepest rate, this project's recipes are too slow."""
        return self.lowest / 2


def find_learning_rate(config: DictConfig, hardware: dict[str, Any]) -> LearningRates:
    """Train with a learning rate that grows from step to step (Smith 2017, arXiv:1506.01186).

    It is a training like any other, with another schedule: the ratios of the rates of parameter groups are kept, and
    finetune=gradual fits the head first. Lightning's Tuner gives all groups the same rate and starts before that.
    """
    probe = probe_config(config)
    probe.trainer.max_steps = NUM_STEPS
    datamodule, classifier, trainer = build_experiment(probe, hardware)
    base = first_rate(classifier.optimizer([torch.nn.Parameter(torch.zeros(1))]))
    if base == 0:
        raise UserError("find=lr: nothing is trained at a learning rate, as with finetune=head; use finetune=gradual")

    def factor(step: int) -> float:
        return MIN_LR / base * (MAX_LR / MIN_LR) ** (step / (NUM_STEPS - 1))

    classifier.scheduler = lambda optimizer, _: LambdaLR(optimizer, factor)
    recorder = LossRecorder()
    add_callback(trainer, recorder)
    trainer.fit(classifier, datamodule)
    rates = [base * factor(step) for step in range(len(recorder.losses))]
    return suggest(rates, recorder.losses)


def suggest(rates: Sequence[float], losses: Sequence[float]) -> LearningRates:
    """Return the rates at which the smoothed loss is lowest and at which, before, it falls fastest per factor.

    Raises:
        UserError: If the loss never falls.
    """
    half = SMOOTHING // 2
    windows = [losses[max(0, step - half) : step + half + 1] for step in range(len(losses))]
    smoothed = [statistics.fmean(window) for window in windows]
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    if lowest < SMOOTHING:
        raise UserError(
            f"find=lr: the loss does not fall at any learning rate from {MIN_LR:g} to {MAX_LR:g}; check data and loss, "
            "or try optimizer=adamw"
        )
    falls = {step: smoothed[step - half] - smoothed[step + half] for step in range(half, lowest - half + 1)}
    steepest = max(falls, key=falls.__getitem__)
    return LearningRates(list(rates), smoothed, rates[steepest], rates[lowest])


class LossRecorder(Callback):
    """Records the loss of each step, and stops when it is much larger than the lowest one."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.sum = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.sum += outputs["loss"].item()  # Lightning divides it by the number of batches that make a step
        if trainer.global_step == len(self.losses):
            return
        loss, self.sum = self.sum, 0.0
        if not math.isfinite(loss):
            trainer.should_stop = True
            return
        self.losses.append(loss)
        recent = statistics.fmean(self.losses[-SMOOTHING:])
        trainer.should_stop = recent > DIVERGED * min(self.losses)


def resolve_batch_size(config: DictConfig, hardware: dict[str, Any]) -> None:
    """Replace data.batch_size=auto by the number that is found, which the run records."""
    if config.data.batch_size == "auto":
        config.data.batch_size = find_batch_size(config, hardware)


def find_batch_size(config: DictConfig, hardware: dict[str, Any]) -> int:
    """Return the largest power of two that a GPU trains, with some memory left free, or the fastest on a CPU.

    An epoch has at least MIN_STEPS steps.
    """
    probe = probe_config(config)
    probe.data.batch_size = MIN_SIZE
    if "finetune" in probe:
        probe.finetune = None
    with quiet():
        datamodule, classifier, _ = build_experiment(probe, hardware)
    largest = 2 ** int(math.log2(max(1, datamodule.epoch_size / MIN_STEPS)))
    is_cuda = hardware["accelerator"] == "cuda"
    log.info(f"batch size: trying powers of two {'until the memory is full' if is_cuda else 'for the fastest one'}")

    def train(size: int, seconds: float) -> list[float]:
        """Train some steps; return the seconds of each."""
        datamodule.batch_size = size
        clock = StepClock(seconds)
        with quiet():
            trainer = build_trainer(probe.trainer, probe.callbacks, probe.logger, hardware)
            add_callback(trainer, clock)
            trainer.fit(classifier, datamodule)
        return clock.seconds

    if is_cuda:
        size, reason = largest_that_fits(lambda size: peak_memory_share(lambda: train(size, 0)), largest)
    else:
        sizes = powers_of_two(min(MIN_SIZE, largest), min(MAX_SIZE, largest))
        speeds = {size: size / statistics.median(train(size, SECONDS)) for size in sizes}
        size, reason = fastest(speeds)
    log.info(f"batch size: {size:,} ({reason})")
    return size


def fastest(speeds: dict[int, float]) -> tuple[int, str]:
    """Return the smallest batch size whose speed is within TOLERANCE of the best, and the reason as text.

    Args:
        speeds: Images per second by batch size, in ascending order.
    """
    best = max(speeds.values())
    size = next(size for size, speed in speeds.items() if speed >= (1 - TOLERANCE) * best)
    measured = ", ".join(f"{size:,}: {speed:,.0f}" for size, speed in speeds.items())
    return size, f"the smallest within {TOLERANCE:.0%} of the fastest; images/s {measured}"


def largest_that_fits(memory_share: Callable[[int], float], largest: int) -> tuple[int, str]:
    """Return the largest power of two up to `largest` that leaves HEADROOM of the memory free, and the reason as text.

    Args:
        memory_share: Trains with a batch size; returns the share of the GPU's memory that this takes, or infinity.
    """
    fits = 0
    for size in powers_of_two(min(2, largest), largest):  # batch norm cannot train on a batch of one
        share = memory_share(size)
        if share > 1 - HEADROOM:
            taken = "more memory than there is" if math.isinf(share) else f"{share:.0%} of the memory"
            if not fits:
                raise UserError(f"data.batch_size=auto: a batch of {size} takes {taken}; use a smaller model or image")
            return fits, f"{size:,} takes {taken}"
        fits = size
    return fits, f"with a larger one, an epoch has less than {MIN_STEPS} steps"


def peak_memory_share(train: Callable[[], object]) -> float:
    """Return the share of the GPU's memory that a training and other programs take together; infinity if too much."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free, total = torch.cuda.mem_get_info()
    others = total - free - torch.cuda.memory_reserved()
    try:
        train()
    except torch.OutOfMemoryError:
        return math.inf
    return (others + torch.cuda.max_memory_reserved()) / total


def powers_of_two(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


class StepClock(Callback):
    """Times the steps after the first two, which are slower; stops after three of them that take some time together."""

    def __init__(self, seconds: float) -> None:
        self.target = seconds
        self.seconds: list[float] = []
        self.clock = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronize()
        now = time.perf_counter()
        if trainer.fit_loop.total_batch_idx >= 2:
            self.seconds.append(now - self.clock)
        self.clock = now
        trainer.should_stop = len(self.seconds) >= 3 and sum(self.seconds) >= self.target


def probe_config(config: DictConfig) -> DictConfig:
    """Return the config of a training of unlimited length that logs, validates and saves nothing."""
    trainer = {
        "max_epochs": -1,
        "min_epochs": None,
        "max_steps": 1_000_000,  # not -1: a schedule needs the number
        "max_time": None,
        "limit_val_batches": 0,
        "limit_train_batches": None,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 0,
    }
    probe = copy.deepcopy(config)
    probe.callbacks, probe.logger = {}, {}
    if "calibrate" in probe:
        probe.calibrate = False
    return OmegaConf.merge(probe, {"trainer": trainer})  # type: ignore[return-value]


def add_callback(trainer: Trainer, callback: Callback) -> None:
    """Add a callback, and remove the one that raises an error when the loss is infinite."""
    kept = [each for each in callbacks(trainer) if not isinstance(each, TerminateOnNaN)]
    trainer.callbacks = [*kept, callback]  # type: ignore[attr-defined]


def first_rate(optimizer: Optimizer) -> float:
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the log lines of a training that the run will print, too."""
    package = logging.getLogger("pytorch_intro")
    level = package.level
    package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        package.setLevel(level)
