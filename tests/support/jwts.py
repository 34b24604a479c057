"""An authenticator of JWTs, whose users and keys are in memory, with clocks that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from service.auth.authenticator import Authenticator, WaysIn
from service.auth.jwks import Keys
from service.auth.jwt import JwtRules, JwtTokens
from service.auth.key_source import KeySource
from service.auth.principal import Principal
from service.http.problems import INVALID_TOKEN, ProblemError
from tests.support.callers import LIFE_S, Clock
from tests.support.issuer import AUDIENCE, ISSUER, SigningKey, claims_of, signed, signing_key
from tests.support.tokens import MemoryTokens
from tests.support.waiting import until

RULES = JwtRules(ISSUER, AUDIENCE, {"RS256", "ES256", "EdDSA", "Ed25519"}, "sub", "")
NOW = 1_800_000_000.0


class User(NamedTuple):
    """A user, as one is found."""

    user_id: int
    role: str = "writer"
    is_active: bool = True


class MemorySource:
    """A key set in memory; it counts how often it is read."""

    interval_s = 3600.0

    def __init__(self, keys: Sequence[dict[str, Any]]) -> None:
        self.keys = list(keys)
        self.reads = 0
        self.error: Exception | None = None

    def __str__(self) -> str:
        return "memory"

    async def read(self) -> bytes:
        """Return the key set."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return msgspec.json.encode({"keys": self.keys})


class JwtCallers:
    """An authenticator of JWTs, its users, its keys and its two clocks."""

    def __init__(self, *keys: SigningKey, rules: JwtRules = RULES, source: KeySource | None = None) -> None:
        self.users = {"ada": User(1), "root": User(9, "admin"), "ada@example.org": User(1)}
        self.finds = 0
        self.moments = 0  # at which users are looked up: what is looked up at the same one shares a statement
        self._is_open = False
        self.source = MemorySource([key.public() for key in keys or (signing_key(),)])
        self.clock, self.wall_clock = Clock(100.0), Clock(NOW)
        self.keys = Keys(source or self.source, rules.algorithms, clock=self.clock)
        tokens = JwtTokens(self.keys, rules, self.find, wall_clock=self.wall_clock)
        self.authenticator = Authenticator(
            WaysIn(jwt=tokens.read, used=[self.keys]),
            MemoryTokens().record,
            cache_ms=int(LIFE_S * 1000),
            clock=self.clock,
            wall_clock=self.wall_clock,
        )

    async def find(self, name: str) -> User | None:
        """Return the user with a name."""
        self.finds += 1
        if not self._is_open:
            self._is_open = True
            self.moments += 1
            asyncio.get_running_loop().call_soon(self._close)
        await asyncio.sleep(0)
        return self.users.get(name)

    def _close(self) -> None:
        self._is_open = False

    def token(self, subject: object = "ada", key: SigningKey | None = None, **claims: Any) -> str:
        """Return a token that is valid, but for the claims that are given."""
        return signed(claims_of(subject, self.wall_clock(), **claims), key)

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
async def opened(
    *keys: SigningKey, rules: JwtRules = RULES, source: KeySource | None = None
) -> AsyncIterator[JwtCallers]:
    """Return callers whose keys have been read, and end their authenticator."""
    callers = JwtCallers(*keys, rules=rules, source=source)
    async with callers.authenticator:
        await until(lambda: callers.keys._key_set)
        yield callers
