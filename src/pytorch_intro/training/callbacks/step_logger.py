"""Training loss, learning rate and speed every few steps, for the loggers."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from pytorch_intro.common.distributed import all_gather_object, all_reduce_sum
from pytorch_intro.common.errors import UserError

POINTS = 50  # of a short run, at least, if it has as many steps
MAX_STEPS = 50  # between two points
MAX_HISTORY = 1000  # points of curves.png


class StepLogger(Callback):
    """Logs train/loss_step, lr, images_per_second and, on CUDA, gpu_memory_mb every few steps.

    train/loss_step is the mean training loss of all images since the last point, over all ranks. It is summed on the
    device. On CUDA it is copied to pinned memory and read at a later step, so that no step waits for the device.
    images_per_second counts the images of all devices, without the time of validations. gpu_memory_mb is the largest
    memory that tensors have taken so far.

    Args:
        every_n_steps: Steps between two points; None: see choose_interval; 0: none.
        grad_norm: Whether to log grad_norm, too: the norm of all gradients before they are clipped.

    Attributes:
        history: (epochs so far, train/loss_step) of each point.
        latest: Values of the last point.
    """

    def __init__(self, every_n_steps: NonNegativeInt | None = None, grad_norm: bool = False) -> None:
        self.every_n_steps = every_n_steps
        self.interval = every_n_steps or 0
        self.grad_norm = grad_norm
        self.loss_sum: Tensor | None = None  # () float32 on the device, of this rank's images since the last point
        self.norm: Tensor | None = None  # () float32 on the device, if the current step is logged
        self.images = 0  # of all ranks, since the last point
        self.seconds = 0.0
        self.last_step = 0
        self.unread: tuple[dict[str, Any], DeferredRead] | None = None  # a point, and its values that are being copied
        self.history: list[tuple[float, float]] = []
        self.latest: dict[str, float] = {}
        self.restored_sums: list[float] = []  # loss_sum of each rank in the checkpoint that training resumes from

    def state_dict(self) -> dict[str, Any]:
        """Return what has been summed since the last point, on every rank, and a point that is not logged yet."""
        return {
            "loss_sums": all_gather_object(0.0 if self.loss_sum is None else self.loss_sum.item()),
            "unread": self.unread and (self.unread[0], self.unread[1].values()),
            **{name: getattr(self, name) for name in ("images", "seconds", "last_step", "history")},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.restored_sums = state.pop("loss_sums")
        if unread := state.pop("unread"):
            self.unread = unread[0], DeferredRead(torch.tensor(unread[1]))
        vars(self).update(state)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.grad_norm and isinstance(trainer.strategy, FSDPStrategy):
            raise UserError("callbacks.step_log.grad_norm=true: FSDP shards the gradients; use false, or trainer=ddp")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the interval, and continue where the checkpoint was saved."""
        if self.every_n_steps is None:
            self.interval = choose_interval(trainer.estimated_stepping_batches)
            trainer.log_every_n_steps = self.interval  # type: ignore[attr-defined]  # for other callbacks
        self.loss_sum = torch.zeros((), device=trainer.strategy.root_device)
        if self.loss_sum.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.loss_sum.device)  # an earlier peak, maybe of a finder
        if sums := self.restored_sums:
            rank, is_same_world = trainer.global_rank, len(sums) == trainer.world_size
            self.loss_sum += sums[rank] if is_same_world else sum(sums) * (rank == 0)
            self.restored_sums = []
        self.clock = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock = time.perf_counter()

    on_validation_end = on_train_epoch_start

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.grad_norm and self.interval and (trainer.global_step + 1) % self.interval == 0:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            self.norm = get_total_norm(gradients)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.interval:
            return
        images = len(batch[1])
        # Lightning divides the loss by the number of batches that make a step.
        assert self.loss_sum is not None
        self.loss_sum.add_(outputs["loss"], alpha=images * trainer.accumulate_grad_batches)
        self.images += images * trainer.world_size
        now = time.perf_counter()
        self.seconds += now - self.clock
        self.clock = now
        if self.unread and self.unread[1].is_ready():
            self.log_unread(trainer)
        step = trainer.global_step
        if step > self.last_step and step % self.interval == 0:
            self.log_unread(trainer)
            self.start_point(trainer, trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches)
            if self.unread and self.unread[1].is_ready():  # not on CUDA
                self.log_unread(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.log_unread(trainer)  # before the checkpoint of the epoch

    def start_point(self, trainer: Trainer, epochs: float) -> None:
        """Start to read the values of a point, and start the sums of the next one."""
        assert self.loss_sum is not None
        total = self.loss_sum.clone()
        all_reduce_sum(total)
        values = {"lr": trainer.optimizers[0].param_groups[0]["lr"], "images_per_second": self.images / self.seconds}
        if total.is_cuda:
            values["gpu_memory_mb"] = torch.cuda.max_memory_allocated(total.device) / 1e6
        point = {"step": trainer.global_step, "epochs": epochs, "values": values}
        on_device = [total / self.images] if self.norm is None else [total / self.images, self.norm.float()]
        self.unread = point, DeferredRead(torch.stack(on_device))
        self.loss_sum.zero_()
        self.norm, self.images, self.seconds, self.last_step = None, 0, 0.0, trainer.global_step

    def log_unread(self, trainer: Trainer) -> None:
        """Log the point that is being read, if there is one; waits for it."""
        if self.unread is None:
            return
        point, read = self.unread
        loss, *norm = read.values()
        self.latest = {"train/loss_step": loss, **point["values"], **({"grad_norm": norm[0]} if norm else {})}
        self.history = thin_out([*self.history, (point["epochs"], loss)])
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=point["step"])
        self.unread = None


class DeferredRead:
    """Copies a vector from the device; on CUDA, nothing waits for it until its values are used."""

    def __init__(self, tensor: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self.copy = torch.empty(tensor.shape, pin_memory=True)
            self.copy.copy_(tensor, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.copy = tensor.cpu()

    def is_ready(self) -> bool:
        return self.event is None or self.event.query()

    def values(self) -> list[float]:
        if self.event is not None:
            self.event.synchronize()
        values: list[float] = self.copy.tolist()
        return values


def choose_interval(total_steps: float) -> int:
    """Return the steps between two points: POINTS or up to twice as many per run, but at least one per MAX_STEPS."""
    return max(1, int(min(MAX_STEPS, total_steps / POINTS)))


def thin_out(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Halve the points of a curve longer than MAX_HISTORY: means of two neighbors, at the position of the later one."""
    if len(points) <= MAX_HISTORY:
        return points
    pairs = [points[start : start + 2] for start in range(0, len(points), 2)]
    return [(pair[-1][0], sum(value for _, value in pair) / len(pair)) for pair in pairs]
