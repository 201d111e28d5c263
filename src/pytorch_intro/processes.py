"""The processes of one training: which of them this is, and what they agree on."""

import functools
import os
from typing import Any, TypeVar

T = TypeVar("T")


def is_first_process() -> bool:
    """Whether this is the only process of a run, or the first of several on as many devices, which writes for all.

    By what Lightning, torchrun or SLURM have set.
    """
    ranks = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def highest(number: int) -> int:
    """The highest of the numbers that the processes of a training give, each at the same place of its work.

    They talk from host to host: through the devices, each step would wait for its end before the next is prepared.
    """
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    highest_ = torch.tensor(int(number))
    distributed.all_reduce(highest_, distributed.ReduceOp.MAX, hosts(distributed.group.WORLD))
    return int(highest_)


def all_gather_object(value: T) -> list[T]:
    """Return the values of all ranks, in the order of the ranks; every rank has to call this.

    Args:
        value: Object to pickle; tensors in it on the CPU.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


@functools.lru_cache(maxsize=1)
def hosts(world: Any) -> Any:
    """The same processes as a group that talks from host to host."""
    from torch import distributed

    return distributed.new_group(backend="gloo")
