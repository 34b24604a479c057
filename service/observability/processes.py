"""The processes of the service as metrics: who is there, and what each uses."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from resource import RLIMIT_NOFILE, getpagesize, getrlimit
from time import monotonic_ns
from typing import NamedTuple

from service.cells import SUPERVISOR, Slots
from service.observability.metrics import Cell, Family, Kind, Metrics

# The first cells of each slot. There is no process while PID is 0; SAMPLED is when a worker was last measured, in
# nanoseconds of the system's monotonic clock.
PID, STATE, SAMPLED = 0, 1, 2


class State(IntEnum):
    """What a worker does."""

    STARTING = 0
    SERVING = 1
    DRAINING = 2


class Process(NamedTuple):
    """A process that has a slot."""

    name: str  # the value of the label `worker`
    slot: int
    pid: int
    state: State


class ProcessMetrics:
    """The part of the metrics that comes first: the cells of a process itself, and the supervisor's counters."""

    def __init__(self, metrics: Metrics) -> None:
        self._cells = metrics.cells
        metrics.first_cell(Family("pid", "", Kind.COUNTER))
        metrics.first_cell(Family("state", "", Kind.COUNTER))
        metrics.first_cell(Family("sampled", "", Kind.COUNTER))

        def counter(name: str, text: str) -> Cell:
            return metrics.counter(metrics.add(Family(name, text, Kind.COUNTER)))

        self.started = counter("workers_started_total", "Workers that were started.")
        self.replaced = counter("workers_replaced_total", "Workers that were replaced: old, too large, or by SIGHUP.")
        self.died = counter("workers_died_total", "Workers that ended without being told to.")

    def enter(self) -> None:
        """Take the slot for this process."""
        self.state(State.STARTING)
        self._cells[PID] = os.getpid()

    def state(self, state: State) -> None:
        """Show what this process does, as of now."""
        self._cells[STATE] = state
        self._cells[SAMPLED] = monotonic_ns()


def free_slot(slots: Slots, taken: set[int]) -> int:
    """Return a slot of a worker's that no living worker has, and leave no process in it."""
    slot = next(slot for slot in range(SUPERVISOR + 1, slots.count) if slot not in taken)
    vacate(slots, slot)
    return slot


def vacate(slots: Slots, slot: int) -> None:
    """Note that the process of a slot has ended: its counts stay, its gauges do not."""
    slots.cells(slot)[PID] = 0


def processes(slots: Slots) -> Iterator[Process]:
    """Yield the processes there are."""
    for slot in range(slots.count):
        cells = slots.cells(slot)
        if pid := cells[PID]:
            yield Process(str(slot) if slot != SUPERVISOR else "supervisor", slot, pid, State(cells[STATE]))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process. Raises OSError if that is not to be had."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * getpagesize()


def open_files(pid: int) -> int:
    """Return how many descriptors a process has open. Raises OSError if that is not to be had."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def files_max(pid: int) -> int:  # noqa: ARG001 - all processes of the service have the same
    """Return how many descriptors a process may have open."""
    return getrlimit(RLIMIT_NOFILE)[0]


USES = {
    "process_resident_memory_bytes": ("Memory of a process that is in RAM.", resident_bytes),
    "process_open_fds": ("Descriptors that a process has open.", open_files),
    "process_max_fds": ("Descriptors that a process may have open.", files_max),
}


def uses(name: str, present: Sequence[Process]) -> Iterator[tuple[str, int]]:
    """Yield what each process uses, where the system tells."""
    _, measure = USES[name]
    for process in present:
        with suppress(OSError):
            yield process.name, measure(process.pid)
