"""The ranks of a distributed training: which one this process is, and what they agree on."""

import functools
import os
from typing import Any, TypeVar

T = TypeVar("T")


def is_rank_zero() -> bool:
    """Return whether this process has rank 0, by the environment of Lightning, torchrun or SLURM."""
    ranks = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def is_first_on_node() -> bool:
    """Return whether this process has local rank 0: all ranks of a node print to the same terminal."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "SLURM_LOCALID"))


def is_distributed_launch() -> bool:
    """Return whether torchrun, srun or (on several machines) the user launched several ranks.

    A SLURM allocation sets SLURM_NTASKS, too, where the command runs once, without srun: Lightning recognizes such a
    shell by the job's name (lightning/fabric/plugins/environments/slurm.py). A task of srun has a SLURM_PROCID.
    """
    is_task = "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    sizes = ("WORLD_SIZE", "SLURM_NTASKS") if is_task else ("WORLD_SIZE",)
    return any(int(os.environ.get(name) or 1) > 1 for name in sizes)


def all_reduce_max(number: int) -> int:
    """Return the maximum of a number over all ranks.

    Reduced on the CPU by gloo: on the devices, each step would have to finish before the next one is prepared.
    """
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    maximum = torch.tensor(int(number))
    distributed.all_reduce(maximum, distributed.ReduceOp.MAX, gloo_group(distributed.group.WORLD))
    return int(maximum)


def all_reduce_sum(values: Any) -> None:
    """Sum a tensor over all ranks, in place; on GPUs, no rank waits for it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values)


def all_gather_object(value: T) -> list[T]:
    """Return the values of all ranks, in the order of the ranks; every rank calls this, with tensors on the CPU."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


@functools.lru_cache(maxsize=1)
def gloo_group(world: Any) -> Any:
    """Return a process group that communicates between CPUs, one per `world` (the default process group)."""
    from torch import distributed

    return distributed.new_group(backend="gloo")
