"""Batchers: many callers, one statement.

A batcher owns connections and drains one queue. While a statement is in flight arrivals queue; when it returns,
everything queued leaves as the next batch. There is no timer: the first arrival leaves at once, so an idle batcher adds
no wait, and a busy one batches by itself. A batcher knows no SQL: it is given a way to connect, and one to run a batch.

    queued -> in a batch, in flight -> answered
                 |  a bad member: by halves, until it stands alone, and is answered with its error
                 |  the connection lost: reads are queued once more, a write is sent again under its token
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import repeat
from typing import Generic, Self, TypeVar

from db.batching.batch import NO_TOKEN, Batch, Connection, Run, tokens
from db.batching.queue import Entry, Limits, Queue, expire
from db.errors import DatabaseError, OutcomeUnknown, Overloaded, SerializationFailure, TimedOut, Unavailable

log = logging.getLogger(__name__)

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 0.5
CONFLICT_RETRIES_MAX = 3  # after the first
LOST_TRIES = 10  # a statement that ends the server each time must not do so for long
WATCH_S = 0.1  # how often deadlines are looked at: they are met by up to that much too early


C = TypeVar("C", bound=Connection)
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Batcher(Generic[C, M, R]):
    """Runs members in batches, and answers each of them.

    The members of a batch are run together; if that fails, by halves, until the bad ones stand alone. With
    `deduplicate`, equal members that wait together are one entry; with `unique_key`, no two members of one batch have
    the same key. If the connection was lost, an `idempotent` batch is run once more with whatever waits, any other as
    it was, under its token.
    """

    def __init__(  # noqa: PLR0913 - a batcher is these choices
        self,
        name: str,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        run: Run[C, M, R],
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
        self._connections = connections
        self._idempotent = idempotent
        self._tokens = repeat(NO_TOKEN) if idempotent else tokens()
        self._queue: Queue[M, R] = Queue(limits, connections, deduplicate=deduplicate, unique_key=unique_key)
        self._batches: list[list[Batch[M, R]]] = [[] for _ in range(connections)]
        self._idle: list[asyncio.Future[None]] = []
        self._serving = 0
        self._connected = 0
        self._watched = False
        self._fault: DatabaseError | None = None
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start, and wait for the first batch to connect, whether it succeeds or not."""
        self._loop = asyncio.get_running_loop()
        tries = [(self._loop.create_future(), batches) for batches in self._batches]
        self._serving = self._connections
        self._tasks = [self._loop.create_task(self._serve(*one)) for one in tries]
        try:
            await asyncio.gather(*(connected for connected, _ in tries))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no more, answer what is queued, then let the connections go."""
        self._fault = Unavailable("the service is stopping")
        self._closing.set()
        self._wake_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, member: M, deadline: float | None = None) -> "asyncio.Future[R]":
        """Queue a member for the next batch; a deadline of its own, by the loop's clock, may be before the batcher's.

        Raises Overloaded over a bound, Unavailable without a connection, and TimedOut past the deadline, all at once.
        """
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        waiter: asyncio.Future[R] = self._loop.create_future()
        now = self._loop.time()
        if deadline is not None and deadline <= now:
            raise TimedOut("it took too long")
        entry = self._queue.add(member, waiter, now)
        if deadline is not None:
            timer = self._loop.call_at(deadline, self._give_up, entry, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())  # or it would keep the response until then
        if not self._watched:
            self._watched = True
            self._loop.call_later(WATCH_S, self._watch)
        self._wake()
        return waiter

    def _give_up(self, entry: Entry[M, R], waiter: "asyncio.Future[R]") -> None:
        """Answer one who can wait no longer."""
        if not waiter.done():
            waiter.set_exception(TimedOut("it took too long") if entry.is_queued else self._unanswered())

    def _unanswered(self) -> DatabaseError:
        """Return what is known of a batch that is in flight."""
        return TimedOut("it takes too long") if self._idempotent else OutcomeUnknown("it is still being written")

    def _watch(self) -> None:
        """Answer those who can wait no longer, for as long as there is anyone."""
        until = self._loop.time() + WATCH_S - self._timeout_s
        self._queue.expire(until)
        batches = [batch for batches in self._batches for batch in batches]
        for batch in batches:
            expire(batch.entries, until, self._unanswered())
        self._watched = bool(self._queue or batches)
        if self._watched:
            self._loop.call_later(WATCH_S, self._watch)

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._idle)):
            self._wake()

    async def _serve(self, connected: "asyncio.Future[None]", batches: list[Batch[M, R]]) -> None:
        """Serve until the batcher is closed, or this task is cancelled: once nobody serves, nobody may wait."""
        try:
            await self._stay_connected(connected, batches)
        finally:
            _resolve(connected)
            for batch in batches:
                batch.answer(self._stopping(batch))
            batches.clear()
            self._serving -= 1
            if not self._serving:
                self._fault = self._fault or Unavailable("the service is stopping")
                self._refuse(self._fault)

    def _stopping(self, batch: Batch[M, R]) -> DatabaseError:
        return (OutcomeUnknown if batch.maybe_committed else Unavailable)("the service is stopping")

    async def _stay_connected(self, connected: "asyncio.Future[None]", batches: list[Batch[M, R]]) -> None:
        """Hold a connection for as long as the batcher is open, and get another whenever it is lost."""
        delay_s = RECONNECT_DELAY_S_MIN
        while not self._closing.is_set():
            try:
                async with self._connect() as connection:
                    batches[:] = [batch for batch in batches if not batch.is_cancelled]
                    self._accept()
                    _resolve(connected)
                    try:
                        connection.add_close_callback(self._wake_all)
                        if await self._drain(connection, batches):
                            delay_s = RECONNECT_DELAY_S_MIN
                            continue
                    finally:
                        self._connected -= 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the batcher outlives it
                self._refuse_arrivals(error, batches)
                _resolve(connected)
            await self._wait(delay_s * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
            delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)

    async def _wait(self, delay_s: float) -> None:
        """Wait, unless the batcher is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()

    def _accept(self) -> None:
        """Count a connection, and let arrivals queue."""
        self._connected += 1
        if self._fault is not None and not self._closing.is_set():
            log.warning("batcher %s: connected again", self.name)
            self._fault = None

    def _refuse_arrivals(self, error: Exception, batches: list[Batch[M, R]]) -> None:
        """Without a connection, fail those who wait, and arrivals at once until there is one.

        Those whose write may have happened wait on, until somebody can be asked.
        """
        fault = error if isinstance(error, Unavailable) else Unavailable(f"the database cannot be used: {error!r}")
        for batch in batches:
            if not batch.maybe_committed:
                batch.answer(fault)
        batches[:] = [batch for batch in batches if not batch.is_cancelled]
        if self._connected or self._closing.is_set():
            return
        if self._fault is None:
            log.warning("batcher %s: %s", self.name, fault)
        self._fault = fault
        self._refuse(fault)

    async def _drain(self, connection: C, batches: list[Batch[M, R]]) -> bool:
        """Run set after set until the connection is lost, or the batcher closes with nothing left to do.

        Tells whether the connection was of any use.
        """
        useful = False
        while not connection.closed:
            if not batches and (entries := self._queue.take()):
                batches.append(Batch(entries, next(self._tokens)))
            if batches:
                await self._settle(connection, batches)
                useful = useful or not connection.closed
            elif self._queue:
                continue  # everyone at its head had left
            elif self._closing.is_set():
                break
            else:
                idle = self._loop.create_future()
                self._idle.append(idle)
                await idle
        return useful

    async def _settle(self, connection: C, batches: list[Batch[M, R]]) -> None:
        """Run the last of the batches; what is left of it takes its place."""
        batch = batches[-1]
        left = self._queue.wait_estimator.start(self._loop.time())
        try:
            results = await self._run(connection, [entry.member for entry in batch.entries], batch.token)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for these callers, and the batcher goes on
            batches[-1:] = self._left_of(batch, error, lost=connection.closed)
            if batch in batches and not connection.closed:
                await self._wait(RECONNECT_DELAY_S_MIN * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
        except BaseException:
            batch.maybe_committed = not self._idempotent
            raise
        else:
            batches.pop()
            self._queue.wait_estimator.observe(self._loop.time() - left)
            self._answer(batch.entries, results)
        finally:
            self._queue.wait_estimator.finish(left)

    def _left_of(self, batch: Batch[M, R], error: Exception, *, lost: bool) -> list[Batch[M, R]]:
        """Answer what can be answered after an error, and give what is to be run, the last of it first."""
        if (
            isinstance(error, SerializationFailure)
            and batch.conflict_retries < CONFLICT_RETRIES_MAX
            and not batch.is_cancelled
        ):
            batch.conflict_retries += 1
            return [batch]
        if isinstance(error, OutcomeUnknown | Unavailable) and self._idempotent:
            self._run_again(batch, error)
            return []
        if isinstance(error, OutcomeUnknown | Unavailable | Overloaded | TimedOut) or batch.is_ambiguous_after(error):
            batch.maybe_committed |= isinstance(error, OutcomeUnknown)
            batch.lost += 1
            if (lost or batch.maybe_committed) and batch.lost < LOST_TRIES and not batch.is_cancelled:
                return [batch]
            batch.answer(OutcomeUnknown(str(error)) if batch.maybe_committed else error)
            return []
        if len(batch.entries) == 1:
            batch.entries[0].answer(error)
            return []
        middle = len(batch.entries) // 2
        halves = (batch.entries[middle:], batch.entries[:middle])
        return [Batch(half, next(self._tokens)) for half in halves]

    def _run_again(self, batch: Batch[M, R], error: DatabaseError) -> None:
        """Queue a repeatable set once more."""
        again = [entry for entry in batch.entries if not entry.retried]
        for entry in batch.entries:
            if entry.retried:
                entry.answer(error)
            entry.retried = True
        self._queue.put_back(again)
        self._wake()  # another connection may have nothing to do

    def _answer(self, entries: list[Entry[M, R]], results: Sequence[R | BaseException]) -> None:
        """Return each its own result."""
        if len(results) != len(entries):  # nobody can tell whose they are
            wrong = RuntimeError(f"batcher {self.name}: {len(results)} results for {len(entries)} members")
            results = [wrong] * len(entries)
        for entry, result in zip(entries, results, strict=True):
            entry.answer(result)

    def _refuse(self, fault: DatabaseError) -> None:
        """Fail everyone who waits: there is no connection."""
        for entry in self._queue.clear():
            entry.answer(fault)


def _resolve(connected: "asyncio.Future[None]") -> None:
    """Tell whoever waits for the first batch to connect that it was made."""
    if not connected.done():
        connected.set_result(None)
