"""A limit on how many transactions use a resource at the same time."""

import asyncio

from db.batching.wait_estimator import WaitEstimator
from db.errors import Overloaded

WITHHELD_S = 60.0


class ConcurrencyLimiter:
    """A context manager that at most `limit` tasks are in at a time, entered in the order of arrival.

    Raises Overloaded at once if other tasks wait, and either the estimated wait is over the bound, or no task has
    entered for as long as the bound. Where the estimate was wrong, it raises Overloaded after twice the bound: a task
    that is refused late has waited in vain.
    """

    def __init__(self, limit: int, wait_ms: int) -> None:
        self._semaphore = asyncio.Semaphore(limit)
        self._estimator = WaitEstimator(limit)
        self._last_start = 0.0
        self._waiting = 0
        self._limit = limit
        self._withheld = 0  # by how much the limit is lowered
        self._kept = 0  # of that, how many places the semaphore does not have any more
        self._wait_s = wait_ms / 1000

    async def __aenter__(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._semaphore.locked():
            await self._wait(clock())
        else:
            await self._semaphore.acquire()
        self._last_start = self._estimator.start(clock())

    def shrink(self) -> None:
        """Lower the limit by one for WITHHELD_S, but not to zero: a task that entered found no resource left."""
        if self._limit - self._withheld > 1:
            self._withheld += 1
            asyncio.get_running_loop().call_later(WITHHELD_S, self._grow)

    def _grow(self) -> None:
        self._withheld -= 1
        if self._kept > self._withheld:
            self._kept -= 1
            self._semaphore.release()

    async def __aexit__(self, *_: object) -> None:
        started = self._estimator.started[0]  # maybe another task's: on average it is the same
        self._estimator.finish(started)
        self._estimator.observe(asyncio.get_running_loop().time() - started)
        if self._kept < self._withheld:
            self._kept += 1
        else:
            self._semaphore.release()

    async def _wait(self, now: float) -> None:
        """Acquire the semaphore. Raises Overloaded if that takes, or would take, too long."""
        if self._waiting and max(now - self._last_start, self._estimator.wait_s(self._waiting, now)) > self._wait_s:
            raise Overloaded("other requests use the database for too long")
        self._waiting += 1
        try:
            async with asyncio.timeout(2 * self._wait_s):
                await self._semaphore.acquire()
        except TimeoutError:
            raise Overloaded("other requests use the database for too long") from None
        finally:
            self._waiting -= 1
