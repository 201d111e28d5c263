"""The order of the images, in batches: a function of seed and epoch, whoever fetches them and wherever one begins."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler


class EpochBatches(Sampler[Tensor]):
    """The batch sampler of one process of several: its share of common batches, as numbers of images.

    However many processes there are, a batch holds the same images; each process has every num_replicas-th of them.

    Lightning sets the epoch; without it, each pass is the next epoch.

    Args:
        total: Number of images.
        batch_size: Images a batch, of all processes together; the last one of an epoch may have fewer. A multiple of
            num_replicas.
        shuffle: A new order every epoch, instead of that of the data set.
        seed: Of the orders; different seeds have no order in common within 65,536 epochs.
        num_replicas, rank: How many processes there are, and which of them this is.
        training: Give all processes the same number of images: as many as are missing are drawn twice. And add an image
            that would be a batch by itself, which batch norm cannot learn from, to the batch before.
        start: Batches that the first pass leaves out, since they were fetched before the run was interrupted.
        device: Where the numbers are handed over; whatever it is, they are the same.

    Attributes:
        epoch: Of the next pass.
        epoch_drawn: () int64 in shared memory: the epoch of the pass that is under way, for worker processes to see.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        training: bool = False,
        start: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.total = total
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.drawn = -(-total // num_replicas) * num_replicas if training else total
        self.is_one_over = training and self.drawn > batch_size > num_replicas == self.drawn % batch_size
        self.start = start
        self.device = device
        self.epoch = 0
        self.epoch_drawn = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        """Number of batches of a whole epoch that have images for this process."""
        return self.drawn // self.batch_size + (self.drawn % self.batch_size > self.rank) - self.is_one_over

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of (up to batch_size / num_replicas,) int64."""
        order = self.order().to(self.device)  # once an epoch: a batch of it is a view
        self.epoch_drawn.fill_(self.epoch)
        start, self.start = self.start, 0
        for number in range(start, len(self)):
            is_last = number == len(self) - 1
            batch = order[number * self.batch_size : None if is_last else (number + 1) * self.batch_size]
            yield batch[self.rank :: self.num_replicas]
        self.epoch += 1

    def order(self) -> Tensor:
        """The epoch's order, (N,) int64, those that are drawn twice last."""
        generator = torch.Generator().manual_seed((self.seed << 16) + self.epoch)
        order = torch.randperm(self.total, generator=generator) if self.shuffle else torch.arange(self.total)
        return order if self.drawn == self.total else order.repeat(-(-self.drawn // self.total))[: self.drawn]

    @property
    def sampler(self) -> "EpochBatches":
        """Where Lightning looks for set_epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
