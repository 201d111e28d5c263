"""Memory of the host and of devices: limits, free space, and the host's allocator."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUP_LIMITS = (  # version 2, version 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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


def host_memory_limit() -> int:
    """Return the bytes of memory this process may use: the machine's, or its container's limit."""
    has_sysconf = hasattr(os, "sysconf")  # not on Windows: assume 8 GB there
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if has_sysconf else 2**33]
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # missing, or "max"
            limits.append(int(file.read_text()))
    return min(limits)
