"""A limit on how many transactions use a resource at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from db.batching.entry import Caller
from db.batching.wait_estimator import WaitEstimator
from db.errors import Overloaded
from db.limit import Limit

WITHHELD_S = 60.0
TOO_LONG = "other requests use the database for too long"


class ConcurrencyLimiter:
    """A context manager that at most `limit` tasks are in at a time, in the order of arrival, each caller in turn.

    Raises Overloaded at once if other tasks wait, and either the estimated wait is over the bound, or no task has
    entered for as long as the bound. The estimate is that of the caller: how many wait for another one's turn does not
    count. Where it was wrong, it raises Overloaded after twice the bound: a task that is refused late has waited in
    vain.
    """

    def __init__(self, limit: int, wait_ms: int) -> None:
        self._free = limit  # places
        self._waiting: dict[Caller, dict[asyncio.Future[None], None]] = {}  # none is empty; the next turn is the first
        self._estimator = WaitEstimator(limit)
        self._last_start = 0.0
        self._limit = limit
        self._withheld = 0  # by how much the limit is lowered
        self._kept = 0  # of that, how many places nobody gets any more
        self._wait_s = wait_ms / 1000

    async def __aenter__(self) -> None:
        await self._enter(None)

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    @asynccontextmanager
    async def turn_of(self, caller: Caller) -> AsyncIterator[None]:
        """Enter as a task of a caller; those of None are the service's own, and batches of several callers."""
        await self._enter(caller)
        try:
            yield
        finally:
            self._leave()

    @property
    def limit(self) -> int:
        """How many tasks may be in."""
        return self._limit - self._withheld

    @property
    def in_use(self) -> int:
        """How many tasks are in."""
        return len(self._estimator.started)

    def shrink(self) -> None:
        """Lower the limit by one for WITHHELD_S, but not to zero: a task that entered found no resource left."""
        if self._limit - self._withheld > 1:
            self._withheld += 1
            asyncio.get_running_loop().call_later(WITHHELD_S, self._grow)

    def _grow(self) -> None:
        self._withheld -= 1
        if self._kept > self._withheld:
            self._kept -= 1
            self._release()

    async def _enter(self, caller: Caller) -> None:
        clock = asyncio.get_running_loop().time
        if self._free:  # then nobody waits
            self._free -= 1
        else:
            await self._wait(caller, clock())
        self._last_start = self._estimator.start(clock())

    def _leave(self) -> None:
        started = self._estimator.started[0]  # maybe another task's: on average it is the same
        self._estimator.finish(started)
        self._estimator.observe(asyncio.get_running_loop().time() - started)
        if self._kept < self._withheld:
            self._kept += 1
        else:
            self._release()

    async def _wait(self, caller: Caller, now: float) -> None:
        """Wait for a place. Raises Overloaded if that takes, or would take, too long."""
        if self._waiting and max(now - self._last_start, self._estimated_wait_s(caller, now)) > self._wait_s:
            raise Overloaded(TOO_LONG, Limit.POOL_WAIT)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, {})[place] = None
        try:
            async with asyncio.timeout(2 * self._wait_s):
                await place
        except BaseException as error:
            if place.cancelled():
                self._withdraw(caller, place)
            else:  # it was given one meanwhile
                self._release()
            if isinstance(error, TimeoutError):
                raise Overloaded(TOO_LONG, Limit.POOL_WAIT) from None
            raise

    def _estimated_wait_s(self, caller: Caller, now: float) -> float:
        callers, own = len(self._waiting), len(self._waiting.get(caller, ()))
        turns = own * callers + callers - 1 if own else callers  # each of the others has its own in between
        return self._estimator.wait_s(min(turns, sum(map(len, self._waiting.values()))), now)

    def _withdraw(self, caller: Caller, place: "asyncio.Future[None]") -> None:
        tasks = self._waiting.get(caller, {})
        if place in tasks:
            del tasks[place]
            if not tasks:
                del self._waiting[caller]

    def _release(self) -> None:
        """Hand a place to the task whose turn it is, if one waits."""
        while self._waiting:
            caller = next(iter(self._waiting))
            tasks = self._waiting.pop(caller)
            place = next(iter(tasks))
            del tasks[place]
            if tasks:
                self._waiting[caller] = tasks
            if not place.done():  # it was not cancelled
                place.set_result(None)
                return
        self._free += 1
