"""What the data path tells about its work: for metrics and traces, of which nothing in db knows."""

from enum import Enum
from typing import Protocol

from db.batching.observer import BatchObserver, UnobservedBatches


class Event(Enum):
    """What happens now and then, and is counted."""

    CONNECTED = "connected"
    CONNECT_FAILED = "connect_failed"
    TRANSACTION_RETRIED = "transaction_retried"
    FOUND_COMMITTED = "found_committed"  # looked up after the connection was lost during a commit
    FOUND_NOT_COMMITTED = "found_not_committed"


class Observer(Protocol):
    """What is told of a worker's data path, in its event loop: it must neither wait nor raise."""

    def batches_of(self, batcher: str) -> BatchObserver:
        """Return what is told of the batches of a batcher, whose name is unique."""

    def happened(self, event: Event) -> None:
        """Note that something happened once."""

    def cleaned(self, table: str, rows: int) -> None:
        """Note that expired rows of a table were deleted."""


class Unobserved:
    """Notes nothing."""

    def batches_of(self, batcher: str) -> BatchObserver:  # noqa: ARG002 - as any other
        """Return what notes nothing."""
        return UnobservedBatches()

    def happened(self, event: Event) -> None:
        """Do nothing."""

    def cleaned(self, table: str, rows: int) -> None:
        """Do nothing."""
