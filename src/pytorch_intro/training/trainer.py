"""Lightning's Trainer, configured for this project."""

import logging
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf import DictConfig

from pytorch_intro.common.errors import UserError
from pytorch_intro.common.memory import disable_malloc_trim
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.training import lightning_internals
from pytorch_intro.training.callbacks.graceful_shutdown import GracefulShutdown
from pytorch_intro.training.callbacks.nan_guard import TerminateOnNaN
from pytorch_intro.training.checkpoint import AtomicCheckpointIO, BestLastCheckpoint


def build_trainer(
    trainer: DictConfig, callback_nodes: DictConfig, logger_nodes: DictConfig, hardware: dict[str, Any]
) -> Trainer:
    """Build the Trainer with its callbacks and loggers.

    Args:
        trainer: Config node of the Trainer.
        callback_nodes: Config nodes of callbacks by name; null omits one.
        logger_nodes: Config nodes of loggers by name; null omits one.
        hardware: Accelerator and precision, which override those of the config.

    Raises:
        UserError: if a value is rejected.
    """
    silence_lightning()
    if hardware["accelerator"] == "cpu":
        disable_malloc_trim()
        # Denormal numbers take a hundred times as long: momenta of filters that no longer get gradients decay to them.
        torch.set_flush_denormal(True)
    callbacks = [instantiate(node, f"callbacks.{name!s}") for name, node in callback_nodes.items() if node]
    loggers = [instantiate(node, f"logger.{name!s}") for name, node in logger_nodes.items() if node]
    # Lightning adds its own callback if one of these is enabled but missing, and fails if it is disabled but present.
    kinds = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    enabled = {switch: trainer[switch] and any(isinstance(c, kinds[switch]) for c in callbacks) for switch in kinds}
    disabled_kinds = tuple(kinds[switch] for switch, is_on in enabled.items() if not is_on)
    callbacks = [callback for callback in callbacks if not isinstance(callback, disabled_kinds)]
    values = {
        "callbacks": [TerminateOnNaN(), *callbacks, GracefulShutdown()],
        "logger": loggers,
        "plugins": [AtomicCheckpointIO()],
        "use_distributed_sampler": False,  # sampler.py splits the batches between the ranks
        **enabled,
        **hardware,
    }
    if trainer.profiler is None:
        values["profiler"] = NullProfiler()
    built: Trainer = instantiate(trainer, "trainer", **values)
    lightning_internals.fix_resume_with_max_steps(built)
    return built


def wait_for_all_ranks(trainer: Trainer) -> None:
    """Wait for all ranks so that rank 0 can create the run folder.

    Ranks that Lightning launches itself start later, in trainer.fit.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, LightningEnvironment):
        trainer.strategy.setup_environment()
        trainer.strategy.barrier("wait_for_all_ranks")


class NullProfiler(PassThroughProfiler):
    """A profiler without overhead: Lightning's default creates some 70 generators per step."""

    context: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self.context


def check_monitors(trainer: Trainer, datamodule: DataModule) -> None:
    """Check that callbacks which monitor a metric of the validation have one.

    Raises:
        UserError: for the first callback that has none.
    """
    if datamodule.val_set is not None and trainer.limit_val_batches:
        return
    for callback in lightning_internals.callbacks(trainer):
        monitor = getattr(callback, "monitor", None)
        # Without validation, BestLastCheckpoint keeps the last checkpoint.
        if str(monitor).startswith("val/") and not isinstance(callback, BestLastCheckpoint):
            raise UserError(
                f"callbacks: {type(callback).__name__} monitors {monitor}, but the run has no validation; set "
                "data.val_fraction, remove trainer.limit_val_batches, or monitor train/loss"
            )


def silence_lightning() -> None:
    """Silence Lightning messages that are redundant or do not apply here."""
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    # A batch is one slice of a tensor: workers would only add the cost of transferring it.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Only lr is logged per step; no metric of a short epoch is lost.
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval.*")
    # A run without validation or test images is intended.
    warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero.*")
    # The batch sampler starts a resumed run at the right batch; see sampler.py.
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
    # epoch_seconds and images_per_second are those of rank 0; all other metrics are reduced.
    warnings.filterwarnings("ignore", r".*sync_dist=True.* when logging on epoch level.*")
    # Lightning 2.6.6 with torch 2.14.
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
