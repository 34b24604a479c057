"""Metrics in shared cells: counters, gauges and histograms, of which a process writes its part and reads the whole.

Every process makes the same metrics in the same order, and so finds each of them in the same cells of every slot.
"""

from dataclasses import dataclass, field
from enum import Enum

from service.cells import CELLS_PER_SLOT, Slots

NANOSECONDS = 10**9  # the scale of cells that hold times, whose unit is the second


class Kind(Enum):
    """How the cells of a series are added up."""

    COUNTER = "counter"
    GAUGE = "gauge"  # of each process: shown with its slot, and only while it has a process
    HISTOGRAM = "histogram"  # the counts of its buckets, the last of what is beyond all bounds, and the sum


@dataclass(frozen=True)
class Family:
    """Metrics of one name: a series for each combination of label values, which are all known at the start."""

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...] = ()
    scale: int = 1  # how much in a cell is one of the family's unit
    bounds: tuple[int, ...] = ()  # of a histogram's buckets, inclusive, as in cells
    always: frozenset[str] | None = None  # the last label's values that are shown while they are zero; None: all
    series: dict[tuple[str, ...], int] = field(default_factory=dict)  # the first cell of each

    @property
    def cells(self) -> int:
        """How many cells a series has."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


class Cell:
    """A count, or a gauge, of this process."""

    __slots__ = ("_cell", "_cells")

    def __init__(self, cells: memoryview, cell: int) -> None:
        self._cells, self._cell = cells, cell

    def add(self, count: int = 1) -> None:
        """Add to the count."""
        self._cells[self._cell] += count

    def set(self, value: int) -> None:
        """Set a gauge."""
        self._cells[self._cell] = value


class Metrics:
    """All metrics of a process, and of the others through their slots."""

    def __init__(self, slots: Slots, slot: int) -> None:
        self.slots, self.slot = slots, slot
        self.cells = slots.cells(slot)
        self.families: list[Family] = []
        self.used = 0  # cells

    def add(self, family: Family) -> Family:
        """Take a family in, and return it."""
        self.families.append(family)
        return family

    def first_cell(self, family: Family, *labels: str) -> int:
        """Return the first cell of a new series. Raise RuntimeError if there is no room for it."""
        first, self.used = self.used, self.used + family.cells
        if self.used > CELLS_PER_SLOT:
            raise RuntimeError(f"a slot has {CELLS_PER_SLOT} cells, which are not enough for all metrics")
        family.series[labels] = first
        if family.kind is Kind.GAUGE:
            self.cells[first] = 0  # what the process before left there
        return first

    def counter(self, family: Family, *labels: str) -> Cell:
        """Return a new series of a family of counters or gauges."""
        return Cell(self.cells, self.first_cell(family, *labels))
