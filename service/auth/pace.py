"""The pace of look-ups that find nothing: random tokens cannot make the database work without a bound."""

import asyncio
from time import monotonic

# After MISSES_MAX look-ups that found nothing, and while there are more than so many a second, look-ups wait for the
# next one of as many moments, and leave together: those share a statement.
MISSES_MAX = 100
MISSES_PER_S = 50


class Pace:
    """Lets look-ups start at once while few of them find nothing, and else 50 times a second, all that wait."""

    def __init__(self) -> None:
        self._allowed = float(MISSES_MAX)
        self._allowed_at = monotonic()
        self._next: asyncio.Event | None = None  # the next moment at which look-ups start

    def missed(self) -> None:
        """Note that a look-up found nothing."""
        now = monotonic()
        allowed = min(MISSES_MAX, self._allowed + (now - self._allowed_at) * MISSES_PER_S)
        self._allowed, self._allowed_at = max(0.0, allowed - 1), now

    async def wait(self) -> None:
        """Wait until a look-up may start: for at most 20 ms."""
        if self._allowed + (monotonic() - self._allowed_at) * MISSES_PER_S >= 1:
            return
        if self._next is None:
            self._next = asyncio.Event()
            asyncio.get_running_loop().call_later(1 / MISSES_PER_S, self._start)
        await self._next.wait()

    def _start(self) -> None:
        if self._next is not None:
            self._next.set()
            self._next = None
