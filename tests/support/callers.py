"""An authenticator of tokens that are kept in memory, with clocks that a test moves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from service.auth.authenticator import Authenticator, WaysIn
from service.auth.principal import Principal
from service.auth.tokens import StoredTokens
from service.http.problems import INVALID_TOKEN, ProblemError
from tests.support.tokens import MemoryTokens
from tests.support.waiting import until

LIFE_S = 5.0


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Callers:
    """An authenticator of tokens in memory, and its two clocks."""

    def __init__(self) -> None:
        self.tokens = MemoryTokens()
        self.clock, self.wall_clock = Clock(100.0), Clock(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
        self.authenticator = Authenticator(
            WaysIn(token=StoredTokens(self.tokens.find).read),
            self.tokens.record,
            cache_ms=int(LIFE_S * 1000),
            clock=self.clock,
            wall_clock=self.wall_clock,
        )

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.wall_clock.now += seconds

    async def who(self, token: str) -> Principal | None:
        """Return the principal as an operation finds it, None for a 401."""
        header = f"Bearer {token}".encode()
        try:
            known = self.authenticator.known(header) or await self.authenticator.authenticate(header)
        except ProblemError as problem:
            if problem.problem_type is not INVALID_TOKEN:
                raise
            return None
        return known.principal

    async def settled(self) -> None:
        """Wait until no look-up is under way."""
        await until(lambda: not self.authenticator._lookups)


@asynccontextmanager
async def opened() -> AsyncIterator[Callers]:
    """Return callers, and end their authenticator."""
    callers = Callers()
    async with callers.authenticator:
        yield callers
