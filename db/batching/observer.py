"""What a batcher tells about its batches: for metrics and traces, which nothing here knows."""

from asyncio import Future
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Protocol

from db.batching.entry import Entry


class Retry(Enum):
    """Why members of a batch are run again."""

    CONFLICT = "conflict"  # with another transaction
    CONNECTION_LOST = "connection_lost"
    BISECTED = "bisected"  # one of them is refused, and the others must not be


class BatchObserver(Protocol):
    """What is told of one batcher's batches, in its event loop: it must neither wait nor raise."""

    @property
    def submitted(self) -> "Callable[[Future[Any]], None] | None":
        """Return what is told of each waiter when it is queued; None: nothing is."""

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Note that entries were run as a batch between two times of time.monotonic(), with whatever outcome."""

    def retried(self, reason: Retry) -> None:
        """Note that members of a batch are to be run again."""


class UnobservedBatches:
    """Notes nothing."""

    submitted = None

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Do nothing."""

    def retried(self, reason: Retry) -> None:
        """Do nothing."""
