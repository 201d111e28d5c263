"""Lightning's Trainer, configured for this project."""

import copy
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar, StochasticWeightAveraging, Timer
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf import DictConfig, open_dict

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.training.callbacks.graceful_shutdown import GracefulShutdown
from pytorch_intro.training.callbacks.nan_guard import TerminateOnNaN
from pytorch_intro.training.checkpoint import AtomicCheckpointIO
from pytorch_intro.training.lightning_internals import fix_resume, fix_signals, keep_averages, leave_out_epoch
from pytorch_intro.training.monitors import resolve_mode


def build_trainer(
    trainer_node: DictConfig,
    callback_nodes: DictConfig,
    logger_nodes: DictConfig,
    hardware: dict[str, Any],
    chosen_metrics: Mapping[str, Any] | None = None,
) -> Trainer:
    """Build the Trainer with its callbacks and loggers, from config nodes by name; null omits a callback or logger.

    Args:
        hardware: Accelerator, precision and threads, which override those of the config.
        chosen_metrics: Nodes of metrics=[…], from which the mode of callbacks that monitor one follows.
    """
    silence_lightning()
    torch.set_num_threads(hardware["threads"])
    if hardware["accelerator"] == "cpu":
        disable_malloc_trim()
        # Denormal numbers are a hundred times slower; momenta of filters that get no more gradients decay to them.
        torch.set_flush_denormal(True)
    callbacks = [
        build_callback(node, f"callbacks.{name!s}", chosen_metrics or {})
        for name, node in callback_nodes.items()
        if node
    ]
    check_averaging(callbacks)
    loggers = [instantiate(node, f"logger.{name!s}") for name, node in logger_nodes.items() if node]
    callbacks += [logger for logger in loggers if isinstance(logger, Callback)]  # those of loggers/
    if trainer_node.fast_dev_run or not trainer_node.enable_checkpointing:
        callbacks = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
    if not trainer_node.enable_progress_bar:
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    has_timer = bool(trainer_node.max_time) or any(isinstance(callback, Timer) for callback in callbacks)
    if not has_timer:
        callbacks.append(Timer())  # for train_seconds
    max_epochs = trainer_node.max_epochs
    if max_epochs == "auto":
        max_epochs = 1 if trainer_node.max_steps == -1 else -1  # until choose_epochs knows the number of images
    if max_epochs is None and trainer_node.max_steps == -1:  # Lightning's rule, which takes any Timer for a time limit
        max_epochs = -1 if has_timer else 1000
    values = {
        "max_epochs": max_epochs,
        # Lightning adds its own callback if one of these is enabled but missing, and fails if it is disabled but there.
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "callbacks": [TerminateOnNaN(), *callbacks, GracefulShutdown()],
        "logger": loggers,
        "plugins": [AtomicCheckpointIO()],
        "use_distributed_sampler": False,  # sampler.py splits the batches between the ranks
        "profiler": trainer_node.profiler or NullProfiler(),
        "accelerator": hardware["accelerator"],
        "precision": hardware["precision"],
    }
    node = copy.deepcopy(trainer_node)  # with its parent, for interpolations
    with open_dict(node):
        node.pop("threads", None)  # not a setting of Lightning's Trainer
    trainer: Trainer = instantiate(node, "trainer", **values)
    fix_resume(trainer)
    fix_signals(trainer)
    keep_averages(trainer)
    leave_out_epoch(trainer)
    if trainer.num_devices > 1:  # Lightning's launcher would set another number
        os.environ["OMP_NUM_THREADS"] = str(hardware["threads"])
    return trainer


def build_callback(node: DictConfig, key: str, chosen_metrics: Mapping[str, Any]) -> Callback:
    """Build a callback; if it monitors a metric, its mode follows from the metric."""
    mode = resolve_mode(key, node, chosen_metrics)
    callback: Callback = instantiate(node, key, **({} if mode is None else {"mode": mode}))
    return callback


def check_averaging(callbacks: Sequence[Callback]) -> None:
    """Raise a UserError for Lightning's StochasticWeightAveraging, which sets its weights after the last checkpoint."""
    if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        raise UserError(
            "callbacks: StochasticWeightAveraging is not supported, its weights would be neither validated nor tested; "
            "use lightning.pytorch.callbacks.EMAWeightAveraging"
        )


def wait_for_all_ranks(trainer: Trainer) -> None:
    """Wait for all ranks so that rank 0 can create the run folder. Those launched by Lightning start later, in fit."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, LightningEnvironment):
        trainer.strategy.setup_environment()
        trainer.strategy.barrier("wait_for_all_ranks")


class NullProfiler(PassThroughProfiler):
    """A profiler without overhead: Lightning's default creates some 70 generators per step."""

    context: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self.context


def silence_lightning() -> None:
    """Silence Lightning messages that are redundant or do not apply here."""
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # a batch is one slice of a tensor; transferring it costs more
        ".*is smaller than the logging interval.*",  # StepLogger counts over epochs
        "Total length of `list` across ranks is zero.*",  # a run without validation or test images is intended
        ".*your dataloader is not resumable.*",  # the batch sampler is; see sampler.py
        r".*sync_dist=True.* when logging on epoch level.*",  # epoch_seconds is that of rank 0; others are reduced
        ".*callbacks used to create the checkpoint need to be provided.*",  # only resume=DIR removes some
        ".*GPU available but not used.*",  # the log names the chosen device, and the reason
        ".*LeafSpec.*is deprecated.*",  # Lightning 2.6.6 with torch 2.14
    ):
        warnings.filterwarnings("ignore", message)
