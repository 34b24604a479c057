"""Lanes: many callers, one statement.

A lane owns connections and drains one queue. While a statement is in flight arrivals queue; when it returns, everything
queued leaves as the next set. There is no timer: the first arrival leaves at once, so an idle lane adds no wait, and a
busy one batches by itself. A lane knows no SQL: it is given a way to connect and a way to run a set of members.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import islice
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from db.errors import DatabaseError, OutcomeUnknown, Overloaded, TimedOut, Unavailable

log = logging.getLogger(__name__)

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 0.5


class Connection(Protocol):
    """What a lane must know of a connection."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as the connection is lost."""


C = TypeVar("C", bound=Connection)
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Limits(NamedTuple):
    """The bounds of a lane; over the last two an arrival is refused at once."""

    set_size_max: int = 256
    queue_length_max: int = 4096
    queue_age_ms_max: int = 1000


class Group(Generic[M, R]):
    """Members that are answered together, and those who wait for the answer."""

    __slots__ = ("member", "retried", "since", "waiters")

    def __init__(self, member: M, waiters: "list[asyncio.Future[R]]", since: float) -> None:
        self.member = member
        self.waiters = waiters
        self.since = since
        self.retried = False

    def answer(self, result: R | BaseException) -> None:
        """Tell everyone who still waits."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if isinstance(result, BaseException):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)

    @property
    def abandoned(self) -> bool:
        """Whether everyone who waited has left."""
        return all(map(asyncio.Future.done, self.waiters))


class Lane(Generic[C, M, R]):
    """One queue, and the connections that drain it.

    `run` answers a set in its own order; an exception in the answer is for that member alone, one that is raised is
    for the whole set, which is then run again by halves until the members at fault stand alone. With `shared`, equal
    members that wait together are one; with `exclusive`, no two members of one set have the same key; with
    `repeatable`, a set whose connection was lost is run once more.
    """

    def __init__(  # noqa: PLR0913 - a lane is these choices
        self,
        name: str,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        run: Callable[[C, Sequence[M]], Awaitable[Sequence[R | BaseException]]],
        limits: Limits,
        connections: int = 1,
        *,
        shared: bool = False,
        repeatable: bool = False,
        exclusive: Callable[[M], Hashable] | None = None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._run = run
        self._limits = limits
        self._connections = connections
        self._shared = shared
        self._repeatable = repeatable
        self._exclusive = exclusive
        self._queue: dict[Hashable, Group[M, R]] = {}
        self._length = 0
        self._idle: list[asyncio.Future[None]] = []
        self._serving = 0
        self._connected = 0
        self._fault: DatabaseError | None = None
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start, and wait for the first attempt to connect, whether it succeeds or not."""
        self._loop = asyncio.get_running_loop()
        attempts = [self._loop.create_future() for _ in range(self._connections)]
        self._serving = self._connections
        self._tasks = [self._loop.create_task(self._serve(attempt)) for attempt in attempts]
        try:
            await asyncio.gather(*attempts)
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

    def submit(self, member: M) -> "asyncio.Future[R]":
        """Queue a member for the next set.

        Raises Overloaded over a bound and Unavailable without a connection, both at once.
        """
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        now = self._loop.time()
        if self._length:
            if self._length >= self._limits.queue_length_max:
                raise Overloaded("too many requests wait for the database")
            oldest = next(iter(self._queue.values())).since
            if (now - oldest) * 1000 > self._limits.queue_age_ms_max:
                raise Overloaded("requests wait too long for the database")
        waiter: asyncio.Future[R] = self._loop.create_future()
        key = member if self._shared else waiter
        group = self._queue.get(key)
        if group is None:
            self._queue[key] = Group(member, [waiter], now)
        else:
            group.waiters.append(waiter)
        self._length += 1
        self._wake()
        return waiter

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def _wake_all(self) -> None:
        for _ in range(len(self._idle)):
            self._wake()

    def _take(self) -> list[Group[M, R]]:
        """Take the next set: the oldest groups, at most one for each exclusive key, and none that was abandoned."""
        if self._exclusive is None and len(self._queue) <= self._limits.set_size_max:
            groups, self._queue, self._length = list(self._queue.values()), {}, 0
            return [group for group in groups if not group.abandoned]
        taken: dict[Hashable, Group[M, R]] = {}
        for key, group in list(islice(self._queue.items(), 2 * self._limits.set_size_max)):
            if len(taken) == self._limits.set_size_max:
                break
            mark = key if self._exclusive is None else self._exclusive(group.member)
            if group.abandoned or mark not in taken:
                del self._queue[key]
                self._length -= len(group.waiters)
            if not group.abandoned and mark not in taken:
                taken[mark] = group
        return list(taken.values())

    async def _serve(self, attempt: "asyncio.Future[None]") -> None:
        """Serve until the lane is closed, or this task is cancelled: once nobody serves, nobody may wait."""
        try:
            await self._stay_connected(attempt)
        finally:
            _resolve(attempt)
            self._serving -= 1
            if not self._serving:
                self._fault = self._fault or Unavailable("the service is stopping")
                self._refuse(self._fault)

    async def _stay_connected(self, attempt: "asyncio.Future[None]") -> None:
        """Hold a connection for as long as the lane is open, and get another whenever it is lost."""
        delay_s = RECONNECT_DELAY_S_MIN
        while not self._closing.is_set():
            try:
                async with self._connect() as connection:
                    delay_s = RECONNECT_DELAY_S_MIN
                    self._accept()
                    _resolve(attempt)
                    try:
                        connection.when_closed(self._wake_all)
                        await self._drain(connection)
                    finally:
                        self._connected -= 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the lane outlives it
                self._refuse_arrivals(error)
                _resolve(attempt)
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay_s * random.uniform(0.5, 1)):  # noqa: S311 - jitter, not a secret
                        await self._closing.wait()
                delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)

    def _accept(self) -> None:
        """Count a connection, and let arrivals queue."""
        self._connected += 1
        if self._fault is not None and not self._closing.is_set():
            log.warning("lane %s: connected again", self.name)
            self._fault = None

    def _refuse_arrivals(self, error: Exception) -> None:
        """Without a connection, fail those who wait, and arrivals at once until there is one."""
        if self._connected or self._closing.is_set():
            return
        fault = error if isinstance(error, Unavailable) else Unavailable(f"the database cannot be used: {error!r}")
        if self._fault is None:
            log.warning("lane %s: %s", self.name, fault)
        self._fault = fault
        self._refuse(fault)

    async def _drain(self, connection: C) -> None:
        """Run set after set until the connection is lost, or the lane closes with nothing left to do."""
        while not connection.closed:
            groups = self._take()
            if groups:
                try:
                    await self._settle(connection, groups)
                except BaseException:
                    unanswered = Unavailable if self._repeatable else OutcomeUnknown
                    self._fail(groups, unanswered("the service is stopping"))
                    raise
            elif self._queue:
                continue  # everyone at its head had left
            elif self._closing.is_set():
                return
            else:
                idle = self._loop.create_future()
                self._idle.append(idle)
                await idle

    async def _settle(self, connection: C, groups: list[Group[M, R]]) -> None:
        """Answer every group of a set."""
        try:
            results = await self._run(connection, [group.member for group in groups])
        except (OutcomeUnknown, Unavailable) as lost:
            self._run_again(groups, lost)
        except (Overloaded, TimedOut) as fault:
            self._fail(groups, fault)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for these callers, and the lane goes on
            if len(groups) == 1:
                groups[0].answer(error)
                return
            middle = len(groups) // 2
            await self._settle(connection, groups[:middle])
            await self._settle(connection, groups[middle:])
        else:
            if len(results) != len(groups):  # nobody can tell whose they are
                wrong = RuntimeError(f"lane {self.name}: {len(results)} results for {len(groups)} members")
                results = [wrong] * len(groups)
            for group, result in zip(groups, results, strict=True):
                group.answer(result)

    def _run_again(self, groups: list[Group[M, R]], lost: DatabaseError) -> None:
        """Queue a repeatable set once more, ahead of the others; fail any other."""
        again = [group for group in groups if self._repeatable and not group.retried]
        self._fail([group for group in groups if group not in again], lost)
        waiting, self._queue = self._queue, {}
        for group in again:
            group.retried = True
            key = group.member if self._shared else group.waiters[0]
            if key in waiting:
                group.waiters += waiting.pop(key).waiters
            self._queue[key] = group
        self._queue.update(waiting)
        self._length = sum(len(group.waiters) for group in self._queue.values())
        self._wake()  # another connection may have nothing to do

    def _fail(self, groups: list[Group[M, R]], fault: DatabaseError) -> None:
        for group in groups:
            group.answer(fault)

    def _refuse(self, fault: DatabaseError) -> None:
        """Fail everyone who waits: there is no connection."""
        groups, self._queue, self._length = list(self._queue.values()), {}, 0
        self._fail(groups, fault)


def _resolve(attempt: "asyncio.Future[None]") -> None:
    """Tell whoever waits for the first attempt that it was made."""
    if not attempt.done():
        attempt.set_result(None)
