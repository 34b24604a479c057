"""Batchers: concurrent calls, one statement.

A batcher has one queue, and borrows a connection for each of its batches. While a statement is in flight calls are
queued; when it returns, all that are queued form the next batch. There is no timer: a call starts at once if a
connection is free, so an idle batcher adds no wait, and a busy one fills its batches by itself.

    queued -> in a batch, in flight -> resolved: every waiter has a result or an error
      ^          |- a conflict with a transaction, of all or some members: they run again, CONFLICT_RETRIES_MAX times
      |          |- the connection lost, a write: the batch runs again under its token, LOST_TRIES times in all
      +----------|- the connection lost, an idempotent batch: its entries are queued again, once for each connection
                 |- overload, a timeout: every waiter of the batch has the error
                 |- another error: the batch is bisected, until a bad member is alone and is resolved with its error
"""

import asyncio
from collections.abc import Callable, Collection, Hashable
from itertools import repeat
from math import inf
from time import monotonic
from typing import Generic, TypeVar

from db.batching.batch import NO_TOKEN, Batch, ClosableConnection, RunBatch, tokens
from db.batching.connections import RECONNECT_DELAY_S_MIN, BatchConnections
from db.batching.entry import Caller, Entry, expire, wait_again
from db.batching.observer import BatchObserver, Retry, UnobservedBatches
from db.batching.queue import Limits, Queue
from db.errors import DatabaseError, OutcomeUnknown, Overloaded, SerializationFailure, TimedOut, Unavailable

CONFLICT_RETRIES_MAX = 3  # after the first run
LOST_TRIES = 10  # a statement that ends the server each time must not do so for long
WATCH_INTERVAL_S = 0.1  # between two looks at the deadlines, which end a wait by up to that much too early

C = TypeVar("C", bound=ClosableConnection)
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Batcher(Generic[C, M, R]):
    """Runs members in batches, up to `in_flight_max` at a time, and resolves a future for each of them.

    With `deduplicate`, equal members that are queued at the same time are run once; with `unique_keys`, no two members
    of one batch share any key; with `group_key`, all members of one have the same. An `idempotent` batch needs no
    token: it may run twice. `slow` batches, and all that are not idempotent, leave a connection to the others.
    """

    def __init__(  # noqa: PLR0913 - a batcher is these choices
        self,
        name: str,
        connections: BatchConnections[C],
        run: RunBatch[C, M, R],
        limits: Limits,
        *,
        in_flight_max: int = 1,
        deduplicate: bool = False,
        idempotent: bool = False,
        slow: bool = False,
        unique_keys: Callable[[M], Collection[Hashable]] | None = None,
        group_key: Callable[[M], Hashable] | None = None,
        observer: BatchObserver | None = None,
    ) -> None:
        self.name = name
        self.idempotent = idempotent
        self.slow = slow or not idempotent
        self._connections = connections
        self._run = run
        self._timeout_s = limits.timeout_ms / 1000
        self._observer = observer or UnobservedBatches()
        self._submitted = self._observer.submitted
        self._tokens = repeat(NO_TOKEN) if idempotent else tokens()
        self._queue: Queue[M, R] = Queue(
            limits, in_flight_max, deduplicate=deduplicate, unique_keys=unique_keys, group_key=group_key
        )
        self._in_flight_max = in_flight_max
        self._in_flight: list[Batch[C, M, R]] = []
        self._is_offered = False  # to the connections, of which one takes a batch
        self._is_watched = False  # whether deadlines are looked at
        connections.add(self)

    def submit(self, member: M, deadline: float = inf, caller: Caller = None) -> "asyncio.Future[R]":
        """Queue a member, and return a future of its result.

        `deadline`, in seconds of time.monotonic(), may be before the batcher's own. Those of each `caller` have their
        turns. Raises at once Overloaded over a bound of the queue, Unavailable without a connection, and TimedOut past
        the deadline.
        """
        if self._connections.refusal is not None:
            raise self._connections.refusal.with_traceback(None)
        loop = self._connections.loop
        waiter: asyncio.Future[R] = loop.create_future()
        now = monotonic()  # the loop's clock, of which uvloop shows whole milliseconds alone
        if deadline <= now:
            raise TimedOut("it took too long")
        entry = self._queue.add(member, waiter, now, caller)
        if self._submitted is not None:
            self._submitted(waiter)
        if deadline != inf:
            timer = loop.call_at(deadline, self._time_out, entry, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())  # or it would keep the result until then
        if not self._is_watched:
            self._is_watched = True
            loop.call_later(WATCH_INTERVAL_S, self._watch)
        if not self._is_offered:
            self._offer()
        return waiter

    def _offer(self, *, wake: bool = True) -> None:
        """Ask for a connection, if there is a batch to run."""
        if self._queue and not self._is_offered and len(self._in_flight) < self._in_flight_max:
            self._is_offered = True
            self._connections.offer(self, wake=wake)

    def take(self) -> Batch[C, M, R] | None:
        """Return the next batch, to run it on a connection; None if every call was cancelled."""
        self._is_offered = False
        entries = self._queue.take()
        batch = Batch(self, entries, next(self._tokens)) if entries else None
        if batch is not None:
            self._in_flight.append(batch)
        self._offer()
        return batch

    async def run(self, connection: C, batch: Batch[C, M, R]) -> list[Batch[C, M, R]]:
        """Run a batch: resolve its entries, or return the batches to run in its place, the next one first."""
        started = self._queue.wait_estimator.start(monotonic(), others_wait=bool(self._queue))
        following: list[Batch[C, M, R]] = []
        failed = False
        try:
            results = await self._run(connection, [entry.member for entry in batch.entries], batch.token)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for these waiters, and the batcher goes on
            failed = True
            following = self._after_error(batch, error, lost=connection.closed)
        except BaseException:
            batch.maybe_committed = not self.idempotent
            raise
        else:
            self._queue.wait_estimator.observe(monotonic() - started)
            retry = not self.idempotent and batch.conflict_retries < CONFLICT_RETRIES_MAX
            if conflicts := batch.resolve(results, retry=retry):
                following = [Batch(self, conflicts, next(self._tokens), batch.conflict_retries + 1)]
                self._observer.retried(Retry.CONFLICT)
        finally:
            self._queue.wait_estimator.finish(started)
            self._observer.ran(batch.entries, started, monotonic())
        if failed or following:
            wait_again(batch.entries, monotonic())
        if batch in following and not connection.closed:
            await self._connections.pause(RECONNECT_DELAY_S_MIN)
        self.finish(batch, following, wake=False)  # this connection looks for the next batch itself
        return following

    def finish(self, batch: Batch[C, M, R], following: Collection[Batch[C, M, R]] = (), *, wake: bool = True) -> None:
        """Forget a batch, or replace it by those that follow it; ask for a connection for the next calls."""
        self._in_flight.remove(batch)
        self._in_flight += following
        self._offer(wake=wake)

    @property
    def queue_length(self) -> int:
        """How many calls are queued."""
        return len(self._queue)

    def fail_queued(self, error: DatabaseError) -> None:
        """Resolve the calls that are queued with an error."""
        self._queue.fail(error)

    def _time_out(self, entry: Entry[M, R], waiter: "asyncio.Future[R]") -> None:
        """Resolve one waiter, whose deadline is over."""
        if not waiter.done():
            waiter.set_exception(TimedOut("it took too long") if entry.is_queued else self._in_flight_error())

    def _in_flight_error(self) -> DatabaseError:
        """Return the error of a waiter whose time is over while its batch is in flight."""
        return TimedOut("it takes too long") if self.idempotent else OutcomeUnknown("it is still being written")

    def _watch(self) -> None:
        """Resolve the waiters whose time is over, and look again later while any entry is queued or in flight."""
        loop = self._connections.loop
        queued_until = loop.time() + WATCH_INTERVAL_S - self._timeout_s
        self._queue.expire(queued_until)
        for batch in self._in_flight:
            expire(batch.entries, queued_until, self._in_flight_error())
        self._is_watched = bool(self._queue or self._in_flight)
        if self._is_watched:
            loop.call_later(WATCH_INTERVAL_S, self._watch)

    def _after_error(self, batch: Batch[C, M, R], error: Exception, *, lost: bool) -> list[Batch[C, M, R]]:
        """Return the batches to run after an error, the next one first; resolve or queue all other entries."""
        conflict = isinstance(error, SerializationFailure) and batch.conflict_retries < CONFLICT_RETRIES_MAX
        if conflict and not batch.is_cancelled:
            batch.conflict_retries += 1
            self._observer.retried(Retry.CONFLICT)
            return [batch]
        if isinstance(error, OutcomeUnknown | Unavailable) and self.idempotent:
            # All connections may have been lost at once, and each is found to be by the batch that borrows it.
            self._observer.retried(Retry.CONNECTION_LOST)
            self._queue.retry(batch.entries, error, self._connections.size)
            return []
        conflicting = isinstance(error, SerializationFailure) and len(batch.entries) > 1  # halves contend for less
        no_result = isinstance(error, OutcomeUnknown | Unavailable | Overloaded | TimedOut)
        if (no_result and not conflicting) or batch.is_ambiguous_after(error):
            batch.maybe_committed |= isinstance(error, OutcomeUnknown)
            batch.tries_lost += 1
            if (lost or batch.maybe_committed) and batch.tries_lost < LOST_TRIES and not batch.is_cancelled:
                self._observer.retried(Retry.CONNECTION_LOST)
                return [batch]
            batch.fail(OutcomeUnknown(str(error)) if batch.maybe_committed else error)
            return []
        if len(batch.entries) == 1:
            batch.fail(error)
            return []
        self._observer.retried(Retry.BISECTED)
        return batch.halves(self._tokens)
