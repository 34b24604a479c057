"""Metrics of the data path: what the batchers, the transactions and the database's connections tell."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from db.batching.entry import Entry
from db.batching.observer import Retry
from db.models import CommitRecord, IdempotencyRecord, Token
from db.observer import Event
from service.observability.metrics import NANOSECONDS, Cell, Family, Kind, Metrics

# Few buckets: each is a line of every batcher's in each scrape.
SIZES = (1, 4, 16, 64, 256, 1000)
TIMES_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 0.5, 1, 5)
TIMES = tuple(int(seconds * NANOSECONDS) for seconds in TIMES_S)

SIZE = "batch_size", "Members of a batch, which share a statement or a transaction; equal calls are one member."
WAIT = (
    "queue_wait_seconds",
    "How long the first member of a batch had waited when it was started, or started again.",
)
DURATION = "statement_duration_seconds", "How long a batch's statement, or transaction, took."
RETRIES = "batch_retries_total", "Batches that were run again, whole or in part."
CONNECTS = "database_connects_total", "Connections to the database that were opened, or could not be."
TRANSACTION_RETRIES = "transaction_retries_total", "Transactions that were run again."
LOOKUPS = (
    "commit_lookups_total",
    "Commits that were looked up after an error; a batch that is not found is run again, uncounted.",
)
CLEANED = "rows_cleaned_total", "Expired rows that were deleted."
CLEANED_TABLES = (CommitRecord.__tablename__, IdempotencyRecord.__tablename__, Token.__tablename__)

# The first cells of a batcher's three histograms, from its first one on.
WAITS = len(SIZES) + 2
DURATIONS = WAITS + len(TIMES) + 2


class BatchMetrics:
    """Counts the batches of one batcher."""

    __slots__ = ("_cells", "_first", "_retries")

    submitted = None

    def __init__(self, cells: memoryview, first: int, retries: dict[Retry, Cell]) -> None:
        self._cells, self._first, self._retries = cells, first, retries

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Count a batch, its size, its wait and its duration: one by one, as this is done for each batch."""
        cells, first = self._cells, self._first
        size = len(entries)
        wait = int((started - entries[0].waits_since) * NANOSECONDS)
        duration = int((ended - started) * NANOSECONDS)
        cells[first + bisect_left(SIZES, size)] += 1
        cells[first + WAITS - 1] += size
        cells[first + WAITS + bisect_left(TIMES, wait)] += 1
        cells[first + DURATIONS - 1] += wait
        cells[first + DURATIONS + bisect_left(TIMES, duration)] += 1
        cells[first + DURATIONS + len(TIMES) + 1] += duration

    def retried(self, reason: Retry) -> None:
        """Count a retry."""
        self._retries[reason].add()


class DataPathMetrics:
    """Counts what happens in the data path of a worker."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

        def family(described: tuple[str, str], label: str) -> Family:
            return metrics.add(Family(*described, Kind.COUNTER, (label,)))

        self._size = metrics.add(Family(*SIZE, Kind.HISTOGRAM, ("batcher",), bounds=SIZES))
        self._wait = metrics.add(Family(*WAIT, Kind.HISTOGRAM, ("batcher",), NANOSECONDS, TIMES))
        self._duration = metrics.add(Family(*DURATION, Kind.HISTOGRAM, ("batcher",), NANOSECONDS, TIMES))
        self._retries = metrics.add(Family(*RETRIES, Kind.COUNTER, ("batcher", "reason"), always=frozenset()))
        connects, lookups, cleaned = family(CONNECTS, "result"), family(LOOKUPS, "outcome"), family(CLEANED, "table")
        self._events = {
            Event.CONNECTED: metrics.counter(connects, "connected"),
            Event.CONNECT_FAILED: metrics.counter(connects, "failed"),
            Event.TRANSACTION_RETRIED: metrics.counter(metrics.add(Family(*TRANSACTION_RETRIES, Kind.COUNTER))),
            Event.FOUND_COMMITTED: metrics.counter(lookups, "committed"),
            Event.FOUND_NOT_COMMITTED: metrics.counter(lookups, "not_committed"),
        }
        self._cleaned = {table: metrics.counter(cleaned, table) for table in CLEANED_TABLES}

    def batches_of(self, batcher: str) -> BatchMetrics:
        """Return what counts the batches of a batcher."""
        first = self._metrics.first_cell(self._size, batcher)
        self._metrics.first_cell(self._wait, batcher)
        self._metrics.first_cell(self._duration, batcher)
        retries = {reason: self._metrics.counter(self._retries, batcher, reason.value) for reason in Retry}
        return BatchMetrics(self._metrics.cells, first, retries)

    def happened(self, event: Event) -> None:
        """Count an event."""
        self._events[event].add()

    def cleaned(self, table: str, rows: int) -> None:
        """Count rows that were deleted."""
        self._cleaned[table].add(rows)
