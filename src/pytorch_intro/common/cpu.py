"""CPU cores: how many this process may use, and how many of them other programs keep busy."""

import math
import os
import time
from contextlib import suppress
from pathlib import Path

PROC_STAT = Path("/proc/stat")  # Linux only
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": two cores
MIN_SECONDS = 0.1  # of a measurement: the kernel counts in steps of 10 ms


class CpuMonitor:
    """Measures how many of the usable cores other programs keep busy, on average since `restart`."""

    def __init__(self) -> None:
        self.start: tuple[float, float] | None = None
        self.result = 0.0

    def restart(self) -> None:
        self.start = read_clocks()

    def cores_used_by_others(self) -> float:
        """Return the number of cores; the last one if `restart` was a moment ago, 0 if the system has no /proc/stat."""
        now = read_clocks()
        if now and self.start and (seconds := now[0] - self.start[0]) >= MIN_SECONDS:
            self.result = max(0.0, (now[1] - self.start[1]) / seconds)
        return self.result


JOB_MONITOR = CpuMonitor()  # the entry point restarts it when a job begins, before torch is imported


def usable_cores() -> int:
    """Return the number of cores that this process may use: by its affinity and by the quota of its container."""
    cores = len(affinity())
    with suppress(OSError, ValueError):  # no such file, or no quota: "max 100000"
        quota, period = CGROUP_QUOTA.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return cores


def affinity() -> set[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def read_clocks() -> tuple[float, float] | None:
    """Return the time, and how long other processes have used the usable cores, in seconds; None without /proc/stat.

    Children of this process count as others until they end. See proc_stat(5).
    """
    try:
        lines = PROC_STAT.read_text().splitlines()
    except OSError:
        return None
    cores = {f"cpu{number}" for number in affinity()}
    busy = 0
    for name, *columns in map(str.split, lines):
        if name in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, columns[:8])
            busy += user + nice + system + irq + softirq + steal
    own = os.times()
    own_seconds = own.user + own.system + own.children_user + own.children_system
    return time.monotonic(), busy / os.sysconf("SC_CLK_TCK") - own_seconds
