"""Cells: 64-bit integers that the processes of the service share, so that each can tell what all have counted.

    slot 0: the supervisor | slot 1: a worker | slot 2: a worker | ...

Each process counts in its own slot alone, so nothing is locked, and no increment is lost; the supervisor notes there
that it has ended. A process that is killed leaves its slot as it was, and its successor counts on from there: a counter
never goes back, and nothing piles up.
"""

from multiprocessing.sharedctypes import RawArray
from typing import NamedTuple

CELLS_PER_SLOT = 32_768  # 256 KiB, of which the system gives only the pages that are used
SUPERVISOR = 0


class Slots:
    """The cells of a supervisor, of its workers, and of a successor of one. To be made before any of them."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.count = 1 + workers + 1
        self._memory = RawArray("q", self.count * CELLS_PER_SLOT)

    def cells(self, slot: int) -> memoryview:
        """Return the cells of a slot. One is read and written at once, as it is aligned."""
        start = slot * CELLS_PER_SLOT
        return memoryview(self._memory).cast("B").cast("q")[start : start + CELLS_PER_SLOT]


class Slot(NamedTuple):
    """The slot of one process."""

    slots: Slots
    number: int
