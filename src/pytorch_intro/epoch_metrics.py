"""Loss and accuracy over an epoch, gathered on the device."""

import torch
import torch.distributed
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
        self.losses.add_(loss, alpha=len(targets))  # in place: torch's modules take their time to set an attribute
        self.hits.add_((logits.argmax(dim=1) == targets).sum())
        self.images.add_(len(targets))

    def compute(self) -> dict[str, Tensor]:
        """loss and accuracy, () float32 each; accuracy is a share of 1."""
        return {"loss": self.losses / self.images, "accuracy": self.hits / self.images}

    def sums_of_processes(self) -> list[dict[str, Tensor]]:
        """What each process has gathered so far, on the host."""
        mine = {"losses": self.losses.cpu(), "hits": self.hits.cpu(), "images": self.images.cpu()}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return [mine]
        sums = [mine] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(sums, mine)
        return sums

    def go_on(self, sums: list[dict[str, Tensor]], rank: int, world_size: int) -> None:
        """Go on from what the processes had gathered; where there are as many as then, each from its own."""
        if len(sums) != world_size:
            zeros = {name: torch.zeros_like(value) for name, value in sums[0].items()}
            total = {name: torch.stack([mine[name] for mine in sums]).sum(dim=0) for name in zeros}
            sums = [total, *[zeros] * (world_size - 1)]
        for name, value in sums[rank].items():
            setattr(self, name, value.to(self.device))
