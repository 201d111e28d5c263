"""The order of the training images: a function of seed and epoch, whoever fetches them and wherever one begins."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DistributedSampler


class EpochSampler(DistributedSampler):
    """torch's DistributedSampler for one process as well: each process draws its own share of one common order.

    Lightning sets the epoch; without it, each pass over the sampler is the next epoch. If the images cannot be divided
    evenly among the processes, as many as are missing are drawn twice.

    Args:
        data_source: Has a length.
        shuffle: A new order every epoch, instead of that of the data set.
        seed: Of the orders; different seeds have no order in common within 65,536 epochs.
        num_replicas, rank: How many processes there are, and which of them this is.
    """

    def __init__(self, data_source: Any, shuffle: bool, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(data_source, num_replicas, rank, shuffle, seed << 16)  # to which the epoch is added

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        self.epoch += 1
