"""Batchers: concurrent calls, one statement.

A batcher owns connections and one queue. While a statement is in flight calls are queued; when it returns, all that are
queued form the next batch. There is no timer: a call starts at once if a connection is idle, so an idle batcher adds no
wait, and a busy one fills its batches by itself. How to connect, and how to run a batch, are functions given to it.

    queued -> in a batch, in flight -> resolved: every waiter has a result or an error
      ^          |- a conflict with another transaction: the batch runs again, CONFLICT_RETRIES_MAX times
      |          |- the connection lost, a write: the batch runs again under its token, LOST_TRIES times in all
      +----------|- the connection lost, an idempotent batch: its entries are queued once more, ahead of all others
                 |- overload, a timeout: every waiter of the batch has the error
                 |- another error: the batch is bisected, until a bad member is alone and is resolved with its error
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager, suppress
from itertools import repeat
from typing import Generic, Self, TypeVar

from db.batching.batch import NO_TOKEN, STOPPING, Batch, ClosableConnection, RunBatch, tokens
from db.batching.queue import Entry, Limits, Queue, expire
from db.errors import DatabaseError, OutcomeUnknown, Overloaded, SerializationFailure, TimedOut, Unavailable

log = logging.getLogger(__name__)

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 0.5
CONFLICT_RETRIES_MAX = 3  # after the first run
LOST_TRIES = 10  # a statement that ends the server each time must not do so for long
WATCH_INTERVAL_S = 0.1  # between two looks at the deadlines, which end a wait by up to that much too early

C = TypeVar("C", bound=ClosableConnection)
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Batcher(Generic[C, M, R]):
    """Runs members in batches, and resolves a future for each of them.

    With `deduplicate`, equal members that are queued at the same time are run once; with `unique_key`, no two members
    of one batch have the same key. An `idempotent` batch needs no token: it may run twice.
    """

    def __init__(  # noqa: PLR0913 - a batcher is these choices
        self,
        name: str,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        run: RunBatch[C, M, R],
        limits: Limits,
        connections: int = 1,
        *,
        deduplicate: bool = False,
        idempotent: bool = False,
        unique_key: Callable[[M], Hashable] | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._run = run
        self._timeout_s = limits.timeout_ms / 1000
        self._idempotent = idempotent
        self._tokens = repeat(NO_TOKEN) if idempotent else tokens()
        self._queue: Queue[M, R] = Queue(limits, connections, deduplicate=deduplicate, unique_key=unique_key)
        # The unresolved batches of each connection. The last one is run; one that was bisected is two here.
        self._batches: list[list[Batch[M, R]]] = [[] for _ in range(connections)]
        self._idle: list[asyncio.Future[None]] = []  # of connections that wait for a call
        self._serving = 0  # tasks, of which each has one connection, or tries to get it
        self._connected = 0
        self._watched = False  # whether deadlines are looked at
        self._submit_error: DatabaseError | None = None  # raised at once while no call can be queued
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start, and wait until each connection was tried once, whether that succeeded or not."""
        self._loop = asyncio.get_running_loop()
        tried = [asyncio.Event() for _ in self._batches]
        self._serving = len(self._batches)
        self._tasks = [self._loop.create_task(self._serve(*one)) for one in zip(tried, self._batches, strict=True)]
        try:
            await asyncio.gather(*(event.wait() for event in tried))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new calls, resolve those that are queued or in flight, then close the connections."""
        self._submit_error = Unavailable(STOPPING)
        self._closing.set()
        self._wake_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, member: M, deadline: float | None = None) -> "asyncio.Future[R]":
        """Queue a member, and return a future of its result.

        `deadline`, in seconds of the loop's clock, may be before the batcher's own. Raises at once Overloaded over a
        bound of the queue, Unavailable without a connection, and TimedOut past the deadline.
        """
        if self._submit_error is not None:
            raise self._submit_error.with_traceback(None)
        waiter: asyncio.Future[R] = self._loop.create_future()
        now = self._loop.time()
        if deadline is not None and deadline <= now:
            raise TimedOut("it took too long")
        entry = self._queue.add(member, waiter, now)
        if deadline is not None:
            timer = self._loop.call_at(deadline, self._time_out, entry, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())  # or it would keep the result until then
        if not self._watched:
            self._watched = True
            self._loop.call_later(WATCH_INTERVAL_S, self._watch)
        self._wake()
        return waiter

    def _time_out(self, entry: Entry[M, R], waiter: "asyncio.Future[R]") -> None:
        """Resolve one waiter, whose deadline is over."""
        if not waiter.done():
            waiter.set_exception(TimedOut("it took too long") if entry.is_queued else self._in_flight_error())

    def _in_flight_error(self) -> DatabaseError:
        """Return the error of a waiter whose time is over while its batch is in flight."""
        return TimedOut("it takes too long") if self._idempotent else OutcomeUnknown("it is still being written")

    def _watch(self) -> None:
        """Resolve the waiters whose time is over, and look again later while any entry is queued or in flight."""
        queued_until = self._loop.time() + WATCH_INTERVAL_S - self._timeout_s
        self._queue.expire(queued_until)
        in_flight = [batch for batches in self._batches for batch in batches]
        for batch in in_flight:
            expire(batch.entries, queued_until, self._in_flight_error())
        self._watched = bool(self._queue or in_flight)
        if self._watched:
            self._loop.call_later(WATCH_INTERVAL_S, self._watch)

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._idle)):
            self._wake()

    async def _serve(self, tried: asyncio.Event, batches: list[Batch[M, R]]) -> None:
        """Serve the queue until the batcher closes or this task is cancelled; the last task leaves no waiter behind."""
        try:
            await self._stay_connected(tried, batches)
        finally:
            tried.set()
            for batch in batches:
                batch.abort()
            batches.clear()
            self._serving -= 1
            if not self._serving:
                self._submit_error = self._submit_error or Unavailable(STOPPING)
                self._queue.fail(self._submit_error)

    async def _stay_connected(self, tried: asyncio.Event, batches: list[Batch[M, R]]) -> None:
        """Keep a connection while the batcher is open, and open another whenever it is lost."""
        delay_s = RECONNECT_DELAY_S_MIN
        while not self._closing.is_set():
            try:
                async with self._connect() as connection:
                    batches[:] = [batch for batch in batches if not batch.is_cancelled]
                    self._accept_calls()
                    tried.set()
                    try:
                        connection.add_close_callback(self._wake_all)
                        if await self._drain(connection, batches):
                            delay_s = RECONNECT_DELAY_S_MIN
                            continue
                    finally:
                        self._connected -= 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the batcher outlives it
                self._refuse_calls(error, batches)
                tried.set()
            await self._wait(delay_s)
            delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)

    async def _wait(self, delay_s: float) -> None:
        """Wait for 50 to 100 % of the delay, but no longer than the batcher is open."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s * random.uniform(0.5, 1)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()

    def _accept_calls(self) -> None:
        """Count a new connection; calls can be queued again."""
        self._connected += 1
        if self._submit_error is not None and not self._closing.is_set():
            log.warning("batcher %s: connected again", self.name)
            self._submit_error = None

    def _refuse_calls(self, error: Exception, batches: list[Batch[M, R]]) -> None:
        """Fail the batches of a connection that cannot be opened; without any other, all calls until there is one.

        A write that may have been committed waits on, until a connection can find out.
        """
        refusal = error if isinstance(error, Unavailable) else Unavailable(f"the database cannot be used: {error!r}")
        for batch in batches:
            if not batch.maybe_committed:
                batch.fail(refusal)
        batches[:] = [batch for batch in batches if not batch.is_cancelled]
        if self._connected or self._closing.is_set():
            return
        if self._submit_error is None:
            log.warning("batcher %s: %s", self.name, refusal)
        self._submit_error = refusal
        self._queue.fail(refusal)

    async def _drain(self, connection: C, batches: list[Batch[M, R]]) -> bool:
        """Run batches until the connection is lost, or the batcher closes and its queue is empty.

        Return whether the connection outlived any batch.
        """
        useful = False
        while not connection.closed:
            if not batches and (entries := self._queue.take()):
                batches.append(Batch(entries, next(self._tokens)))
            if batches:
                await self._run_last(connection, batches)
                useful = useful or not connection.closed
            elif self._queue:
                continue  # every entry at its head was cancelled
            elif self._closing.is_set():
                break
            else:
                idle = self._loop.create_future()
                self._idle.append(idle)
                await idle
        return useful

    async def _run_last(self, connection: C, batches: list[Batch[M, R]]) -> None:
        """Run the last of the batches, and remove it: its entries are resolved then, or in what takes its place."""
        batch = batches[-1]
        started = self._queue.wait_estimator.start(self._loop.time())
        try:
            results = await self._run(connection, [entry.member for entry in batch.entries], batch.token)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for these waiters, and the batcher goes on
            to_run = self._after_error(batch, error, lost=connection.closed)
            batches.pop()
            batches.extend(to_run)
            if batch in to_run and not connection.closed:
                await self._wait(RECONNECT_DELAY_S_MIN)
        except BaseException:
            batch.maybe_committed = not self._idempotent
            raise
        else:
            batches.pop()
            self._queue.wait_estimator.observe(self._loop.time() - started)
            batch.resolve(results, self.name)
        finally:
            self._queue.wait_estimator.finish(started)

    def _after_error(self, batch: Batch[M, R], error: Exception, *, lost: bool) -> list[Batch[M, R]]:
        """Return the batches to run after an error, the next one last; resolve or queue all that is in none of them."""
        conflict = isinstance(error, SerializationFailure) and batch.conflict_retries < CONFLICT_RETRIES_MAX
        if conflict and not batch.is_cancelled:
            batch.conflict_retries += 1
            return [batch]
        if isinstance(error, OutcomeUnknown | Unavailable) and self._idempotent:
            self._queue.retry(batch.entries, error)
            self._wake()  # another connection may be idle
            return []
        if isinstance(error, OutcomeUnknown | Unavailable | Overloaded | TimedOut) or batch.is_ambiguous_after(error):
            batch.maybe_committed |= isinstance(error, OutcomeUnknown)
            batch.tries_lost += 1
            if (lost or batch.maybe_committed) and batch.tries_lost < LOST_TRIES and not batch.is_cancelled:
                return [batch]
            batch.fail(OutcomeUnknown(str(error)) if batch.maybe_committed else error)
            return []
        if len(batch.entries) == 1:
            batch.fail(error)
            return []
        return batch.halves(self._tokens)
