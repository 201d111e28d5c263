"""A batch sampler whose order depends on seed and epoch alone, so that training can resume mid-epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from pytorch_intro.data.class_sampler import ClassSampler


@dataclass(eq=False)
class ResumableBatchSampler(Sampler[Tensor]):
    """Yields this rank's share of each global batch, as indices.

    A global batch holds the same images for any number of ranks; each rank takes every num_replicas-th of them.

    Args:
        batch_size: Size of a global batch, a multiple of num_replicas; the last batch may be smaller.
        seed: Seed of the shuffles; different seeds share no order within 65,536 epochs.
        training: Whether to give all ranks equally many images, repeating some if needed, and to merge a last batch of
            one image, on which batch norm fails, into the batch before.
        device: Device of the indices; their values do not depend on it.
        samples: Number of samples of an epoch; None: total. Epochs then take their samples, one epoch after the other,
            from endless shuffled passes over all images.
        class_sampler: Sampler of the images of an epoch by their classes, instead of these passes.
        mark_repeats: Whether to add total to an index that occurs for the second time in an epoch, and so on; see
            RepeatedSubset.

    Attributes:
        epoch: Epoch of the next pass. Lightning sets it; without Lightning, each pass is the next epoch.
        start: Number of batches to skip in the next pass: those trained before the run was interrupted.
        current_epoch: () int64, the epoch of the running pass; worker processes need it in shared memory.
    """

    total: int
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    num_replicas: int = 1
    rank: int = 0
    training: bool = False
    device: torch.device | None = None
    samples: int | None = None
    class_sampler: ClassSampler | None = None
    mark_repeats: bool = False

    def __post_init__(self) -> None:
        self.epoch = self.start = 0
        self.current_epoch = torch.zeros((), dtype=torch.int64)
        size, ranks = self.batch_size, self.num_replicas
        self.num_samples = self.samples or self.total
        self.padded_total = -(-self.num_samples // ranks) * ranks if self.training else self.num_samples
        self.merges_last = self.training and self.padded_total > size > ranks == self.padded_total % size

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch in which this rank has images."""
        rest = self.padded_total % self.batch_size
        return self.padded_total // self.batch_size + (rest > self.rank) - self.merges_last

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches of up to batch_size / num_replicas indices, int64."""
        order = self.order().to(self.device)  # once per epoch: each batch is a view
        self.current_epoch.fill_(self.epoch)
        start, self.start = self.start, 0
        for number in range(start, len(self)):
            is_last = number == len(self) - 1
            batch = order[number * self.batch_size : None if is_last else (number + 1) * self.batch_size]
            yield batch[self.rank :: self.num_replicas]
        self.epoch += 1

    def order(self) -> Tensor:
        """Return the epoch's order, (padded_total,) int64, with repeated indices last."""
        if self.class_sampler:
            order = self.class_sampler.sample(self.num_samples, self.generator(self.epoch), self.mark_repeats)
        else:
            first_pass, start = divmod(self.epoch * self.num_samples, self.total)
            num_passes = -(-(start + self.num_samples) // self.total)
            passes = [self.order_of_pass(first_pass + number) for number in range(num_passes)]
            if self.mark_repeats:
                passes = [order + number * self.total for number, order in enumerate(passes)]
            order = passes[0] if num_passes == 1 else torch.cat(passes)
            order = order[start : start + self.num_samples].clone()  # frees the rest
        if self.padded_total == self.num_samples:
            return order
        return order.repeat(-(-self.padded_total // self.num_samples))[: self.padded_total]

    def order_of_pass(self, number: int) -> Tensor:
        """Return all indices, (total,) int64, in the order of a pass; without `samples`, each epoch is a pass."""
        if not self.shuffle:
            return torch.arange(self.total)
        return torch.randperm(self.total, generator=self.generator(number))

    def generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 16) + number)

    @property
    def sampler(self) -> "ResumableBatchSampler":
        """The attribute in which Lightning looks for set_epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
