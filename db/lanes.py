"""Lanes: many callers, one statement.

A lane owns connections and drains one queue. While a statement is in flight arrivals queue; when it returns, everything
queued leaves as the next set. There is no timer: the first arrival leaves at once, so an idle lane adds no wait, and a
busy one batches by itself. A lane knows no SQL: it is given a way to connect and a way to run a set of members.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import repeat
from typing import Generic, Self, TypeVar

from db.attempts import NO_TOKEN, Attempt, Connection, Run, tokens
from db.errors import Contended, DatabaseError, OutcomeUnknown, Overloaded, TimedOut, Unavailable
from db.queues import Group, Limits, Queue, expire

log = logging.getLogger(__name__)

RECONNECT_DELAY_S_MIN = 0.02
RECONNECT_DELAY_S_MAX = 0.5
CONTENDED_TRIES = 3  # after the first
LOST_TRIES = 10  # a statement that ends the server each time must not do so for long
WATCH_S = 0.1  # how often deadlines are looked at: they are met by up to that much too early


C = TypeVar("C", bound=Connection)
M = TypeVar("M", bound=Hashable)
R = TypeVar("R")


class Lane(Generic[C, M, R]):
    """Runs members in sets, and answers each of them.

    The members of a set are run together; if that fails, by halves, until the bad ones stand alone. With `shared`,
    equal members that wait together are one; with `exclusive`, no two members of one set have the same key. If the
    connection was lost, a `repeatable` set is run once more with whoever waits, any other as it was, under its token.
    """

    def __init__(  # noqa: PLR0913 - a lane is these choices
        self,
        name: str,
        connect: Callable[[], AbstractAsyncContextManager[C]],
        run: Run[C, M, R],
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
        self._timeout_s = limits.timeout_ms / 1000
        self._connections = connections
        self._repeatable = repeatable
        self._tokens = repeat(NO_TOKEN) if repeatable else tokens()
        self._queue: Queue[M, R] = Queue(limits, connections, shared=shared, exclusive=exclusive)
        self._attempts: list[list[Attempt[M, R]]] = [[] for _ in range(connections)]
        self._idle: list[asyncio.Future[None]] = []
        self._serving = 0
        self._connected = 0
        self._watched = False
        self._fault: DatabaseError | None = None
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start, and wait for the first attempt to connect, whether it succeeds or not."""
        self._loop = asyncio.get_running_loop()
        tries = [(self._loop.create_future(), attempts) for attempts in self._attempts]
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
        """Queue a member for the next set; a deadline of its own, by the loop's clock, may be before the lane's.

        Raises Overloaded over a bound, Unavailable without a connection, and TimedOut past the deadline, all at once.
        """
        if self._fault is not None:
            raise self._fault.with_traceback(None)
        waiter: asyncio.Future[R] = self._loop.create_future()
        now = self._loop.time()
        if deadline is not None and deadline <= now:
            raise TimedOut("it took too long")
        group = self._queue.add(member, waiter, now)
        if deadline is not None:
            timer = self._loop.call_at(deadline, self._give_up, group, waiter)
            waiter.add_done_callback(lambda _: timer.cancel())  # or it would keep the response until then
        if not self._watched:
            self._watched = True
            self._loop.call_later(WATCH_S, self._watch)
        self._wake()
        return waiter

    def _give_up(self, group: Group[M, R], waiter: "asyncio.Future[R]") -> None:
        """Answer one who can wait no longer."""
        if not waiter.done():
            waiter.set_exception(TimedOut("it took too long") if group.is_queued else self._unanswered())

    def _unanswered(self) -> DatabaseError:
        """Tell what is known of a set that is in flight."""
        return TimedOut("it takes too long") if self._repeatable else OutcomeUnknown("it is still being written")

    def _watch(self) -> None:
        """Answer those who can wait no longer, for as long as there is anyone."""
        until = self._loop.time() + WATCH_S - self._timeout_s
        self._queue.expire(until)
        attempts = [attempt for attempts in self._attempts for attempt in attempts]
        for attempt in attempts:
            expire(attempt.groups, until, self._unanswered())
        self._watched = bool(self._queue or attempts)
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

    async def _serve(self, connected: "asyncio.Future[None]", attempts: list[Attempt[M, R]]) -> None:
        """Serve until the lane is closed, or this task is cancelled: once nobody serves, nobody may wait."""
        try:
            await self._stay_connected(connected, attempts)
        finally:
            _resolve(connected)
            for attempt in attempts:
                attempt.answer(self._stopping(attempt))
            attempts.clear()
            self._serving -= 1
            if not self._serving:
                self._fault = self._fault or Unavailable("the service is stopping")
                self._refuse(self._fault)

    def _stopping(self, attempt: Attempt[M, R]) -> DatabaseError:
        return (OutcomeUnknown if attempt.doubtful else Unavailable)("the service is stopping")

    async def _stay_connected(self, connected: "asyncio.Future[None]", attempts: list[Attempt[M, R]]) -> None:
        """Hold a connection for as long as the lane is open, and get another whenever it is lost."""
        delay_s = RECONNECT_DELAY_S_MIN
        while not self._closing.is_set():
            try:
                async with self._connect() as connection:
                    attempts[:] = [attempt for attempt in attempts if not attempt.abandoned]
                    self._accept()
                    _resolve(connected)
                    try:
                        connection.when_closed(self._wake_all)
                        if await self._drain(connection, attempts):
                            delay_s = RECONNECT_DELAY_S_MIN
                            continue
                    finally:
                        self._connected -= 1
            except Exception as error:  # noqa: BLE001 - whatever it is, the lane outlives it
                self._refuse_arrivals(error, attempts)
                _resolve(connected)
            await self._wait(delay_s * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
            delay_s = min(delay_s * 2, RECONNECT_DELAY_S_MAX)

    async def _wait(self, delay_s: float) -> None:
        """Wait, unless the lane is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()

    def _accept(self) -> None:
        """Count a connection, and let arrivals queue."""
        self._connected += 1
        if self._fault is not None and not self._closing.is_set():
            log.warning("lane %s: connected again", self.name)
            self._fault = None

    def _refuse_arrivals(self, error: Exception, attempts: list[Attempt[M, R]]) -> None:
        """Without a connection, fail those who wait, and arrivals at once until there is one.

        Those whose write may have happened wait on, until somebody can be asked.
        """
        fault = error if isinstance(error, Unavailable) else Unavailable(f"the database cannot be used: {error!r}")
        for attempt in attempts:
            if not attempt.doubtful:
                attempt.answer(fault)
        attempts[:] = [attempt for attempt in attempts if not attempt.abandoned]
        if self._connected or self._closing.is_set():
            return
        if self._fault is None:
            log.warning("lane %s: %s", self.name, fault)
        self._fault = fault
        self._refuse(fault)

    async def _drain(self, connection: C, attempts: list[Attempt[M, R]]) -> bool:
        """Run set after set until the connection is lost, or the lane closes with nothing left to do.

        Tells whether the connection was of any use.
        """
        useful = False
        while not connection.closed:
            if not attempts and (groups := self._queue.take()):
                attempts.append(Attempt(groups, next(self._tokens)))
            if attempts:
                await self._settle(connection, attempts)
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

    async def _settle(self, connection: C, attempts: list[Attempt[M, R]]) -> None:
        """Run the last of the attempts; what is left of it takes its place."""
        attempt = attempts[-1]
        left = self._queue.flights.leave(self._loop.time())
        try:
            results = await self._run(connection, [group.member for group in attempt.groups], attempt.token)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for these callers, and the lane goes on
            attempts[-1:] = self._left_of(attempt, error, lost=connection.closed)
            if attempt in attempts and not connection.closed:
                await self._wait(RECONNECT_DELAY_S_MIN * random.uniform(0.5, 1))  # noqa: S311 - jitter, not a secret
        except BaseException:
            attempt.doubtful = not self._repeatable
            raise
        else:
            attempts.pop()
            self._queue.flights.observe(self._loop.time() - left)
            self._answer(attempt.groups, results)
        finally:
            self._queue.flights.land(left)

    def _left_of(self, attempt: Attempt[M, R], error: Exception, *, lost: bool) -> list[Attempt[M, R]]:
        """Answer what can be answered after an error, and give what is to be run, the last of it first."""
        if isinstance(error, Contended) and attempt.contended < CONTENDED_TRIES and not attempt.abandoned:
            attempt.contended += 1
            return [attempt]
        if isinstance(error, OutcomeUnknown | Unavailable) and self._repeatable:
            self._run_again(attempt, error)
            return []
        if isinstance(error, OutcomeUnknown | Unavailable | Overloaded | TimedOut) or attempt.puzzled_by(error):
            attempt.doubtful |= isinstance(error, OutcomeUnknown)
            attempt.lost += 1
            if (lost or attempt.doubtful) and attempt.lost < LOST_TRIES and not attempt.abandoned:
                return [attempt]
            attempt.answer(OutcomeUnknown(str(error)) if attempt.doubtful else error)
            return []
        if len(attempt.groups) == 1:
            attempt.groups[0].answer(error)
            return []
        middle = len(attempt.groups) // 2
        halves = (attempt.groups[middle:], attempt.groups[:middle])
        return [Attempt(half, next(self._tokens)) for half in halves]

    def _run_again(self, attempt: Attempt[M, R], error: DatabaseError) -> None:
        """Queue a repeatable set once more."""
        again = [group for group in attempt.groups if not group.retried]
        for group in attempt.groups:
            if group.retried:
                group.answer(error)
            group.retried = True
        self._queue.put_back(again)
        self._wake()  # another connection may have nothing to do

    def _answer(self, groups: list[Group[M, R]], results: Sequence[R | BaseException]) -> None:
        """Give each its own result."""
        if len(results) != len(groups):  # nobody can tell whose they are
            wrong = RuntimeError(f"lane {self.name}: {len(results)} results for {len(groups)} members")
            results = [wrong] * len(groups)
        for group, result in zip(groups, results, strict=True):
            group.answer(result)

    def _refuse(self, fault: DatabaseError) -> None:
        """Fail everyone who waits: there is no connection."""
        for group in self._queue.clear():
            group.answer(fault)


def _resolve(connected: "asyncio.Future[None]") -> None:
    """Tell whoever waits for the first attempt to connect that it was made."""
    if not connected.done():
        connected.set_result(None)
