"""How many workers a machine, or the part of one that this process may use, is good for."""

import os
from math import inf

from service.cgroup import Limits

AUTO = "auto"
# Of memory under load, with room to spare (docs/performance.md): what all processes share, and what a worker adds.
SHARED_MIB = 50
WORKER_MIB = 32


def processors() -> int:
    """Return on how many processors this process may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def auto_workers(limits: Limits, processors: int, workers_max: int) -> int:
    """Return a worker for each whole processor, and no more than there is memory for; at least one.

    With a worker more than there is time for all would wait: once a period's quota is used up, the whole group stops.
    """
    cpus = int(min(limits.cpus, processors))
    return max(1, min(cpus, workers_max, _that_fit(limits.memory_bytes, workers_max)))


def memory_shortage(limits: Limits, workers: int) -> str:
    """Return that there is too little memory for so many workers, and one more while one is replaced, or ""."""
    allowed_mib, needed_mib = limits.memory_bytes / 2**20, SHARED_MIB + WORKER_MIB * (workers + 1)
    if needed_mib <= allowed_mib:
        return ""
    return (
        f"the control group allows {allowed_mib:.0f} MiB of memory; {workers} worker{'s' if workers > 1 else ''}, and "
        f"one more while one is replaced, need about {needed_mib}, and bodies of requests more: processes may be killed"
    )


def _that_fit(memory_bytes: float, workers_max: int) -> int:
    if memory_bytes == inf:
        return workers_max
    return int(memory_bytes / 2**20 - SHARED_MIB) // WORKER_MIB - 1
