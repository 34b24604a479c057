"""Connections that batchers borrow: a bounded set, so that many verbs of many tables need few of them.

Each connection has a task. It takes the next batch of the batcher that has waited longest, runs it to its end, and then
takes another one's. A connection that is lost is opened again, and its task goes on with the batch that was in flight,
as the batcher has decided. Nothing here knows what a batch does.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from db.batching.batch import STOPPING, Batch, ClosableConnection
from db.batching.connection_sets import ConnectionSets
from db.errors import DatabaseError, TooManyConnections, Unavailable

if TYPE_CHECKING:  # it imports this module
    from db.batching.batcher import Batcher

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 0.5
SHORTAGE_DELAY_S = 5.0  # between attempts to have more connections than the database allows

C = TypeVar("C", bound=ClosableConnection)


class BatchConnections(Generic[C]):
    """A bounded set of connections that batchers borrow, a batch at a time; it is entered to connect.

    Of slow batches no more than `slow_max` are in flight at the same time, so that a read waits neither for the disk
    nor for a count of every row: all connections but one, unless it says otherwise.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        size: int,
        *,
        slow_max: int | None = None,
        sets: ConnectionSets | None = None,
    ) -> None:
        self.name = name
        self._sets = sets or ConnectionSets()
        self._sets.add(self.give_back)
        self._connected = self._to_give_back = 0  # connections
        self.refusal: DatabaseError | None = None  # raised at once while no call can be queued
        self._connect = connect
        self.size = size
        self._slow_max = max(1, size - 1) if slow_max is None else slow_max
        self._slow = 0  # slow batches in flight
        self._batchers: list[Batcher[C, Any, Any]] = []
        self._ready: deque[Batcher[C, Any, Any]] = deque()  # that have a batch to run, the first one offered first
        self._idle: list[asyncio.Future[None]] = []  # of connections that wait for a batch
        self._serving = 0  # tasks, of which each has one connection, or tries to get it
        self._failing = 0  # tasks that could not connect when they tried last
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start, and wait until each connection was tried once, whether that succeeded or not."""
        self.loop = asyncio.get_running_loop()
        tried = [asyncio.Event() for _ in range(self.size)]
        self._serving = self.size
        self._tasks = [self.loop.create_task(self._serve(event)) for event in tried]
        try:
            await asyncio.gather(*(event.wait() for event in tried))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse new calls, resolve those that are queued or in flight, then close the connections."""
        self.refusal = Unavailable(STOPPING)
        self._closing.set()
        self._wake_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, batcher: "Batcher[C, Any, Any]") -> None:
        """Register a batcher: its queued calls fail if no connection can be had."""
        self._batchers.append(batcher)

    def offer(self, batcher: "Batcher[C, Any, Any]", *, wake: bool = True) -> None:
        """Queue a batcher: the next free connection runs a batch of it, after those that were offered before.

        The task of a connection need not wake another one: it takes the next batch in the same step.
        """
        self._ready.append(batcher)
        if wake and self._may_run(batcher):
            self._wake()

    def _may_run(self, batcher: "Batcher[C, Any, Any]") -> bool:
        return not batcher.slow or self._slow < self._slow_max

    def _next(self) -> Batch[C, Any, Any] | None:
        """Return the next batch to run, if there is one that may.

        While a connection is idle and a batch may run, a wake is on its way to some connection, or this is called next.
        """
        while (batcher := next(filter(self._may_run, self._ready), None)) is not None:
            self._ready.remove(batcher)
            if (batch := batcher.take()) is not None:
                self._slow += batcher.slow
                return batch
        return None

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._idle)):
            self._wake()

    async def _serve(self, tried: asyncio.Event) -> None:
        """Run batches until the set closes or this task is cancelled; the last task leaves no waiter behind."""
        pending: list[Batch[C, Any, Any]] = []  # to run on this connection; the first one is in flight
        try:
            await self._stay_connected(tried, pending)
        finally:
            tried.set()
            for batch in pending:
                batch.abort()
            self._drop_cancelled(pending)
            self._serving -= 1
            if not self._serving:
                self._fail_queued(self.refusal or Unavailable(STOPPING))

    async def _stay_connected(self, tried: asyncio.Event, pending: list[Batch[C, Any, Any]]) -> None:
        """Keep a connection while the set is open, and open another whenever it is lost."""
        delay_s, failing = RECONNECT_DELAY_S_MIN, False
        while not self._closing.is_set():
            try:
                async with self._connect() as connection:
                    self._failing -= failing
                    failing = False
                    self._accept_calls()
                    tried.set()
                    connection.add_close_callback(self._wake_all)
                    self._connected += 1
                    try:
                        useful = await self._run_batches(connection, pending)
                    finally:
                        self._connected -= 1
                        self._to_give_back = max(0, min(self._to_give_back, self._connected - 1))
                    if useful and (connection.closed or self._closing.is_set()):
                        delay_s = RECONNECT_DELAY_S_MIN
                        continue
                    delay_s = delay_s if connection.closed else SHORTAGE_DELAY_S  # it was given back
            except Exception as error:  # noqa: BLE001 - whatever it is, the set outlives it
                self._failing += not failing
                failing = True
                self._refuse_calls(error, pending)
                tried.set()
                if isinstance(error, TooManyConnections):
                    self._sets.note_shortage(error)
                    if self._connected or not self._sets.request():
                        delay_s = SHORTAGE_DELAY_S if self._connected else RECONNECT_DELAY_S_MAX
            await self.pause(delay_s)
            delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)

    def give_back(self) -> bool:
        """Close a connection soon if there is one to spare, and return whether."""
        if self._connected - self._to_give_back <= 1:
            return False
        self._to_give_back += 1
        self._wake_all()
        return True

    async def pause(self, delay_s: float) -> None:
        """Wait for 50 to 100 % of the delay, but no longer than the set is open."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s * random.uniform(0.5, 1)):  # noqa: S311 - jitter, not a secret
                await self._closing.wait()

    def _accept_calls(self) -> None:
        """Accept calls, now that there is a connection."""
        self._sets.end_outage(self.name)
        if not self._closing.is_set():
            self.refusal = None

    def _refuse_calls(self, error: Exception, pending: list[Batch[C, Any, Any]]) -> None:
        """Fail the batches of a connection that cannot be opened; if no other can, all calls until there is one.

        A write that may have been committed waits on, until a connection can find out.
        """
        refusal = error if isinstance(error, Unavailable) else Unavailable(f"the database cannot be used: {error!r}")
        for batch in pending:
            if not batch.maybe_committed:
                batch.fail(refusal)
        self._drop_cancelled(pending)
        if self._ready:  # for a write that has waited for one of these
            self._wake()
        if self._failing < self._serving or self._closing.is_set():
            return
        if self.refusal is None:
            self._sets.begin_outage(self.name, refusal)
        self._fail_queued(refusal)

    def _fail_queued(self, refusal: DatabaseError) -> None:
        self.refusal = refusal
        for batcher in self._batchers:
            batcher.fail_queued(refusal)

    def _drop_cancelled(self, pending: list[Batch[C, Any, Any]]) -> None:
        for batch in [batch for batch in pending if batch.is_cancelled]:
            batch.batcher.finish(batch)
            pending.remove(batch)
            self._release(batch, pending)

    def _release(self, batch: Batch[C, Any, Any], pending: list[Batch[C, Any, Any]]) -> None:
        """Count a slow batch as ended, once nothing of it is pending."""
        if not pending and batch.batcher.slow:
            self._slow -= 1

    async def _run_batches(self, connection: C, pending: list[Batch[C, Any, Any]]) -> bool:
        """Run batches until the connection is lost or not needed; return whether it outlived any batch."""
        useful = False
        self._drop_cancelled(pending)
        while not connection.closed:
            if not pending:
                if self._to_give_back:
                    self._to_give_back -= 1
                    break
                batch = self._next()
                if batch is not None:
                    pending.append(batch)
                elif self._closing.is_set():
                    break
                else:
                    idle = self.loop.create_future()
                    self._idle.append(idle)
                    await idle
                    continue
            batch = pending[0]
            pending[:1] = await batch.batcher.run(connection, batch)
            self._release(batch, pending)
            useful = useful or not connection.closed
            if pending and self._ready:
                self._wake()
        if self._ready:  # what this connection was woken for, or would have run next
            self._wake()
        return useful
