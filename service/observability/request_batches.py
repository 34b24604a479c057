"""What single requests are told of the batches that served them: those that are traced, and with Server-Timing all.

A request takes part by having BATCHES in its scope, and its scope in the variable SCOPE.
"""

from asyncio import Future
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple
from weakref import ref

from db.batching.entry import Entry
from db.batching.observer import BatchObserver, Retry
from db.errors import OutcomeUnknown, Overloaded, StatementFailed, TimedOut, Unavailable
from db.observer import Event, Observer
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


class RequestBatches:
    """Observes the data path for the requests that take part, in front of another observer."""

    def __init__(self, observer: Observer, record: Record | None = None) -> None:
        self._observer = observer
        self._record = record

    def batches_of(self, batcher: str) -> BatchObserver:
        """Return what tells requests of the batches of a batcher."""
        return BatcherRequests(batcher, self._observer.batches_of(batcher), self._record)

    def happened(self, event: Event) -> None:
        """Pass it on."""
        self._observer.happened(event)

    def cleaned(self, table: str, rows: int) -> None:
        """Pass it on."""
        self._observer.cleaned(table, rows)


class BatcherRequests:
    """Tells requests of one batcher's batches, and an observer of them all, which is told of no waiters."""

    def __init__(self, batcher: str, observer: BatchObserver, record: Record | None) -> None:
        self._batcher = batcher
        self._observer = observer
        self._record = record
        # Weak, as the batch keeps its waiters: also one whose time was over before the batch ended. A WeakKeyDictionary
        # would be slow even to tell that it is empty.
        self._requests: dict[ref[Future[Any]], tuple[float, Scope]] = {}
        self._retry = ""

    def submitted(self, waiter: "Future[Any]") -> None:
        """Note for which request a waiter is, if that takes part."""
        scope = SCOPE.get()
        if scope is not None and BATCHES in scope and ENDED not in scope:
            # Its entry may have been queued before, for another one.
            self._requests[ref(waiter, self._requests.pop)] = monotonic(), scope

    def retried(self, reason: Retry) -> None:
        """Note why the run that is told of next has no result."""
        self._retry = reason.value
        self._observer.retried(reason)

    def ran(self, entries: Sequence[Entry[Any, Any]], started: float, ended: float) -> None:
        """Record a batch that has run in the requests that it served."""
        self._observer.ran(entries, started, ended)
        retry, self._retry = self._retry, ""
        if not self._requests:
            return
        requests = {waiter(): request for waiter, request in self._requests.copy().items()}
        found = [requests[waiter] for entry in entries for waiter in entry.waiters if waiter in requests]
        if not found:
            return
        served = [(self._since(*request), request[1]) for request in found]
        run = BatchRun(self._batcher, len(entries), started, ended, retry or failure(entries))
        for since, scope in served:
            scope[BATCHES].append(RequestBatch(since, run))
        if self._record is not None:
            self._record(run, served)

    def _since(self, queued_at: float, scope: Scope) -> float:
        """Return since when a request had waited for a run: since the one before, if that is repeated."""
        batches: list[RequestBatch] = scope[BATCHES]
        return max([queued_at, *(batch.run.ended for batch in batches if batch.run.batcher == self._batcher)])


def failure(entries: Sequence[Entry[Any, Any]]) -> str:
    """Return the name of the error by which a batch failed, or "": that of a waiter that still waited for it."""
    for entry in entries:
        for waiter in entry.waiters:
            if waiter.done() and not waiter.cancelled():
                error = waiter.exception()
                return type(error).__name__ if isinstance(error, FAILURES) else ""
    return ""
