"""Loss and accuracy of an epoch, accumulated on the device."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from pytorch_intro.common.distributed import all_gather_object


class EpochMetrics(Metric):
    """Mean loss and accuracy over all images of an epoch and all ranks.

    An update adds three sums on the device. Lightning's self.log costs about a millisecond per step, most of it for
    moving metrics to the device that they are already on; it is therefore called once per epoch.

    Args:
        has_cross_entropy: Whether there is a fourth sum, of the cross-entropy, which is not the loss then.
    """

    full_state_update = False
    loss_sum: Tensor
    num_correct: Tensor
    num_samples: Tensor
    cross_entropy_sum: Tensor

    def __init__(self, has_cross_entropy: bool = False) -> None:
        super().__init__()
        self.has_cross_entropy = has_cross_entropy
        self.add_state("loss_sum", torch.tensor(0.0, dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("num_correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")
        if has_cross_entropy:
            self.add_state("cross_entropy_sum", torch.tensor(0.0, dtype=torch.float32), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor, cross_entropy: Tensor | None = None) -> None:
        """Add a batch: its mean loss (), logits (N, num_classes), targets (N,) int64 and mean cross-entropy ()."""
        self.loss_sum.add_(loss, alpha=len(targets))  # in place: setting an attribute of a module is slow
        self.num_correct.add_((logits.argmax(dim=1) == targets).sum())
        self.num_samples.add_(len(targets))
        if cross_entropy is not None:
            self.cross_entropy_sum.add_(cross_entropy, alpha=len(targets))

    def compute(self) -> dict[str, Tensor]:
        """Return loss, accuracy (0 to 1) and maybe cross_entropy, () float32 each."""
        sums = {"loss": self.loss_sum, "accuracy": self.num_correct}
        if self.has_cross_entropy:
            sums["cross_entropy"] = self.cross_entropy_sum
        return {name: value / self.num_samples for name, value in sums.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Module:
        """Move the sums to a device, but keep their types: trainer.precision=bf16-true converts all of a module."""
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), *args, **kwargs)

    def gather_state(self) -> list[dict[str, Tensor]]:
        """Return the sums of every rank so far, on the CPU."""
        return all_gather_object({name: getattr(self, name).cpu() for name in self.metric_state})

    def restore(self, states: list[dict[str, Tensor]], rank: int, world_size: int) -> None:
        """Continue from the sums of gather_state; with another world size, rank 0 continues from their total."""
        for name in self.metric_state:
            # A checkpoint of an older version lacks the cross-entropy, which is then unknown for this epoch.
            sums = torch.stack([state.get(name, torch.tensor(math.nan)) for state in states])
            value = sums[rank] if len(states) == world_size else sums.sum(dim=0) * int(rank == 0)
            setattr(self, name, value.to(self.device))
