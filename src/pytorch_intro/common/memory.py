"""Memory: free space on a device, and how the host's allocator keeps it."""

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def disable_malloc_trim() -> None:
    """Keep memory freed by one training step for the next one.

    By default glibc returns large blocks to the system at once, and the kernel zeroes them page by page when they are
    allocated again: a third of a step of the default network. See mallopt(3); other C libraries lack the function.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(m_mmap_threshold, 2**30) or mallopt(m_mmap_threshold, 2**25)  # older versions allow 2^25 at most
        mallopt(m_trim_threshold, -1)


def free_device_memory(device: "torch.device") -> int:
    """Return the free bytes on a device; 0 if unknown."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return 0
