"""What single requests are told of the batches that served them: those that are traced, and with Server-Timing all.

A request takes part by having BATCHES in its scope, and its scope in the variable SCOPE.
"""

from asyncio import Future
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from db.batching.entry import Entry
from db.batching.observer import BatchObserver, Retry
from db.errors import OutcomeUnknown, Overloaded, StatementFailed, TimedOut, Unavailable
from db.observer import Event, Observer, Unobserved
from service.observability.current_request import ENDED, SCOPE, Scope

BATCHES = "batches"  # in a scope: the list of the batches that served the request
# What is no response to a member, but a failure of its batch.
FAILURES = (OutcomeUnknown, Overloaded, StatementFailed, TimedOut, Unavailable)


class BatchRun(NamedTuple):
    """A batch that was run between two times of time.monotonic(); `error` is why it has no result, or ""."""

    batcher: str
    members: int
    started: float
    ended: float
    error: str


class RequestBatch(NamedTuple):
    """A batch that served a request, for which it had waited since a time of time.monotonic()."""

    since: float
    run: BatchRun


# Is given a run, and who of those that take part were served by it, each with the time since which it had waited.
Record = Callable[[BatchRun, Sequence[tuple[float, Scope]]], None]


class RequestBatches(Unobserved):
    """Observes the data path for the requests that take part."""

    def __init__(self, record: Record | None = None) -> None:
        self._record = record

    def batches_of(self, batcher: str) -> BatchObserver:
        """Return what tells requests of the batches of a batcher."""
        return BatcherRequests(batcher, self._record)


class BatcherRequests:
    """Tells requests of one batcher's batches."""

    def __init__(self, batcher: str, record: Record | None) -> None:
        self._batcher = batcher
        self._record = record
        # Weak, as the batch keeps its waiters: also one whose time was over before the batch ended.
        self._requests: WeakKeyDictionary[Future[Any], tuple[float, Scope]] = WeakKeyDictionary()
        self._retry = ""

    def submitted(self, waiter: "Future[Any]") -> None:
        """Note for which request a waiter is, if that takes part."""
        scope = SCOPE.get()
        if scope is not None and BATCHES in scope and ENDED not in scope:
            self._requests[waiter] = monotonic(), scope  # its entry may have been queued before, for another one

    def retried(self, reason: Retry) -> None:
        """Note why the run that is told of next has no result."""
        self._retry = reason.value

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Record a batch that has run in the requests that it served."""
        retry, self._retry = self._retry, ""
        if not self._requests:
            return
        found = (self._requests.get(waiter) for entry in entries for waiter in entry.waiters)
        served = [(self._since(*request), request[1]) for request in found if request is not None]
        if not served:
            return
        run = BatchRun(self._batcher, len(entries), started, ended, retry or failure(entries))
        for since, scope in served:
            scope[BATCHES].append(RequestBatch(since, run))
        if self._record is not None:
            self._record(run, served)

    def _since(self, queued_at: float, scope: Scope) -> float:
        """Return since when a request had waited for a run: since the one before, if that is repeated."""
        batches: list[RequestBatch] = scope[BATCHES]
        return max([queued_at, *(batch.run.ended for batch in batches if batch.run.batcher == self._batcher)])


class BothObservers:
    """Observes the data path by two observers, of whose batches the second is told of waiters."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self._both = first, second

    def batches_of(self, batcher: str) -> BatchObserver:
        """Return what tells both of the batches of a batcher."""
        return BothBatchObservers(*(observer.batches_of(batcher) for observer in self._both))

    def happened(self, event: Event) -> None:
        """Pass it on to both."""
        for observer in self._both:
            observer.happened(event)

    def cleaned(self, table: str, rows: int) -> None:
        """Pass it on to both."""
        for observer in self._both:
            observer.cleaned(table, rows)


class BothBatchObservers:
    """Tells two observers of the batches of a batcher, and the second of its waiters."""

    def __init__(self, first: BatchObserver, second: BatchObserver) -> None:
        self._both = first, second
        self.submitted = second.submitted

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Pass it on to both."""
        for observer in self._both:
            observer.ran(entries, started, ended)

    def retried(self, reason: Retry) -> None:
        """Pass it on to both."""
        for observer in self._both:
            observer.retried(reason)


def failure(entries: Sequence[Entry[Any, Any]]) -> str:
    """Return the name of the error by which a batch failed, or "": that of a waiter that still waited for it."""
    for entry in entries:
        for waiter in entry.waiters:
            if waiter.done() and not waiter.cancelled():
                error = waiter.exception()
                return type(error).__name__ if isinstance(error, FAILURES) else ""
    return ""
