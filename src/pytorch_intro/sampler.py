"""The order of the training images: a function of seed and epoch, whoever fetches them and wherever one begins."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DistributedSampler

CHUNK = 100_000  # numbers that are made Python objects at a time


class EpochSampler(DistributedSampler):
    """torch's DistributedSampler for one process as well: each process draws its own share of one common order.

    Lightning sets the epoch; without it, each pass over the sampler is the next epoch. If the images cannot be divided
    evenly among the processes, as many as are missing are drawn twice. Of the order of an epoch, 8 bytes an image are
    held, where DistributedSampler holds lists.

    Args:
        data_source: Has a length.
        shuffle: A new order every epoch, instead of that of the data set.
        seed: Of the orders; different seeds have no order in common within 65,536 epochs.
        num_replicas, rank: How many processes there are, and which of them this is.
    """

    def __init__(self, data_source: Any, shuffle: bool, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(data_source, num_replicas, rank, shuffle, seed << 16)  # to which the epoch is added

    def __iter__(self) -> Iterator[int]:
        for chunk in self.order().split(CHUNK):
            yield from chunk.tolist()
        self.epoch += 1

    def order(self) -> torch.Tensor:
        """This process's share of the epoch's order, (num_samples,) int64."""
        total = len(self.dataset)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(total, generator=generator) if self.shuffle else torch.arange(total)
        return order[torch.arange(self.rank, self.total_size, self.num_replicas) % total]
