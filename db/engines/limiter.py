"""Who may use what only few can use at a time."""

import asyncio

from db.batching.wait_estimator import WaitEstimator
from db.errors import Overloaded


class ConcurrencyLimiter:
    """A place among few, taken in the order of arrival. Raises Overloaded over the bound of waiting.

    That is at once, if others wait, and an arrival would have to wait for longer by what they took lately, or nobody
    has had a turn for as long. Who is refused late has waited for nothing: it happens after twice the bound, when what
    was foreseen was wrong.
    """

    def __init__(self, places: int, wait_ms: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._estimator = WaitEstimator(places)
        self._left: list[float] = []
        self._waiting = 0
        self._left_last = 0.0
        self._wait_s = wait_ms / 1000

    async def __aenter__(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._places.locked():
            await self._wait(clock())
        else:
            await self._places.acquire()
        self._left_last = self._estimator.start(clock())
        self._left.append(self._left_last)

    async def __aexit__(self, *_: object) -> None:
        left = self._left.pop(0)  # whoever's it was: on average it is the same
        self._estimator.finish(left)
        self._estimator.observe(asyncio.get_running_loop().time() - left)
        self._places.release()

    async def _wait(self, now: float) -> None:
        """Wait for a place."""
        if self._waiting and max(now - self._left_last, self._estimator.wait_s(self._waiting, now)) > self._wait_s:
            raise Overloaded("others use the database for too long")
        self._waiting += 1
        try:
            async with asyncio.timeout(2 * self._wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise Overloaded("others use the database for too long") from None
        finally:
            self._waiting -= 1
