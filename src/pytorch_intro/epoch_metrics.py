"""Loss and accuracy over an epoch, gathered on the device."""

import torch
from torch import Tensor
from torchmetrics import Metric


class EpochMetrics(Metric):
    """Mean loss and accuracy of all images of an epoch, over all processes.

    An update is three sums on the device. Lightning's self.log costs about a millisecond a step, most of it for moving
    metrics to where they are already; so it is called once an epoch.
    """

    full_state_update = False
    losses: Tensor
    hits: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("losses", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            loss: () mean over the batch.
            logits: (N, num_classes).
            targets: (N,) int64.
        """
        self.losses += loss * len(targets)
        self.hits += (logits.argmax(dim=1) == targets).sum()
        self.images += len(targets)

    def compute(self) -> dict[str, Tensor]:
        """loss and accuracy, () float32 each; accuracy is a share of 1."""
        return {"loss": self.losses / self.images, "accuracy": self.hits / self.images}
