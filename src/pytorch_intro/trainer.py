"""Lightning's Trainer with this project's choices: where checkpoints are written, and what is not said."""

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

from pytorch_intro.build import build
from pytorch_intro.checkpoint import AtomicCheckpointIO, BestAndLast
from pytorch_intro.datamodule import DataModule
from pytorch_intro.divergence import StopAtDivergence
from pytorch_intro.errors import UserError
from pytorch_intro.interruption import Interruption
from pytorch_intro.memory import disable_malloc_trim


def build_trainer(trainer: DictConfig, callbacks: DictConfig, logger: DictConfig, hardware: dict[str, Any]) -> Trainer:
    """The Trainer of the config nodes trainer, callbacks and logger, on the hardware that was chosen.

    Args:
        callbacks, logger: Named nodes, each an object; null leaves one out.
        hardware: Settings that take the place of the trainer's own.

    Raises:
        UserError: if a value is refused.
    """
    be_quiet()
    if hardware["accelerator"] == "cpu":
        disable_malloc_trim()
        # Else numbers below 1e-38 take a hundred times as long: the momenta of filters that get no gradients any more.
        torch.set_flush_denormal(True)
    made = [build(node, f"callbacks.{name!s}") for name, node in callbacks.items() if node]
    loggers = [build(node, f"logger.{name!s}") for name, node in logger.items() if node]
    # Where one of these is switched on but not given, Lightning adds its own; where it is off but given, it fails.
    kinds = {"enable_checkpointing": Checkpoint, "enable_progress_bar": ProgressBar}
    switches = {switch: trainer[switch] and any(isinstance(c, kinds[switch]) for c in made) for switch in kinds}
    unwanted = tuple(kinds[switch] for switch, on in switches.items() if not on)
    wanted = [StopAtDivergence(), *(c for c in made if not isinstance(c, unwanted)), Interruption()]
    fixed = {"callbacks": wanted, "logger": loggers, "plugins": [AtomicCheckpointIO()], **switches, **hardware}
    if trainer.profiler is None:
        fixed["profiler"] = NoProfiler()
    fixed["use_distributed_sampler"] = False  # each process takes its own share of the images; see sampler.py
    made_trainer: Trainer = build(trainer, "trainer", **fixed)
    # With max_steps, Lightning 2.6.6 ends an epoch a second time when a run is carried on from the end of it.
    made_trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    return made_trainer


def meet(trainer: Trainer) -> None:
    """Let processes that torchrun or SLURM started wait for each other, so that the first can prepare the folder."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not isinstance(environment, LightningEnvironment):
        trainer.strategy.setup_environment()
        trainer.strategy.barrier("meet")


class NoProfiler(PassThroughProfiler):
    """Costs nothing. Lightning enters its profiler some 70 times a step; its idle one makes a generator each time."""

    nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self.nothing


def check_monitors(trainer: Trainer, datamodule: DataModule) -> None:
    """Find callbacks that would look for a metric which no validation will give.

    Raises:
        UserError: for the first.
    """
    if datamodule.val_set is not None and trainer.limit_val_batches:
        return
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if str(monitor).startswith("val/") and not isinstance(callback, BestAndLast):  # which takes the last then
            raise UserError(
                f"callbacks: {type(callback).__name__} looks at {monitor}, and there is no validation; keep images for "
                "it by data.val_fraction, leave trainer.limit_val_batches, or let it monitor train/loss"
            )


def be_quiet() -> None:
    """Leave out what this project says itself (devices, epochs) and advice that does not hold for it."""
    for part in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(part).setLevel(logging.WARNING)
    # A batch is one slice of a tensor: worker processes only add the cost of handing it over.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Only lr is logged by steps; the figures of a short epoch are not lost.
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval.*")
    # Without validation images, or test images, that is intended.
    warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero.*")
    # A run that is carried on begins at the batch that its checkpoint tells; see sampler.py.
    warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
    # epoch_seconds and images_per_second are the first process's; all other metrics are of all processes.
    warnings.filterwarnings("ignore", r".*sync_dist=True.* when logging on epoch level.*")
    # Lightning 2.6.6 on torch 2.14.
    warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated.*")
