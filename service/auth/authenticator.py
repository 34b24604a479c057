"""Authentication by tokens: who calls, from the header Authorization (RFC 6750).

    a header -> known: its principal, without a wait; looked up again in the background from half its life on
            `-> refused before, malformed, or with a wrong checksum: a 401, without a look-up
            `-> looked up: one look-up at a time for one token, and paced while most of them find nothing

What a look-up found, or that it found nothing, is believed for `cache_ms` from its start: a token that is revoked and a
user who is deactivated or gets another role count for no longer. The time at which a token expires counts at once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from math import inf
from time import monotonic, time
from typing import NoReturn, Protocol, Self, TypeVar

from db.errors import Overloaded, TimedOut
from service.auth.pace import Pace
from service.auth.principal import Principal, principal_of
from service.auth.token_text import TokenDigest, digest_of
from service.auth.token_uses import Record, TokenUses
from service.http.problems import INVALID_TOKEN, UNAUTHENTICATED, ProblemError
from service.http.response import Header

SCHEME = b"Bearer "
CREDENTIALS = re.compile(rb"bearer +([0-9A-Za-z_]{1,100})", re.IGNORECASE)
CREDENTIALS_BYTES_MAX = 256
# RFC 6750, section 3, wants a parameter after the scheme.
CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="items"')
INVALID_CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="items", error="invalid_token"')

KNOWN_MAX = 10_000  # principals that are kept
REFUSED_MAX = 10_000  # tokens of which it is kept that they are refused, apart: they push out no principal
LOOKUPS_MAX = 1000  # at a time; then a 503
RETRIES = 8  # of a look-up in the background, within the life of what it would replace

V = TypeVar("V")


class Caller(Protocol):
    """A token as it is stored, and its user."""

    @property
    def token_id(self) -> int:
        """Return the token's id."""

    @property
    def digest(self) -> str:
        """Return the token's SHA-256, in hexadecimal."""

    @property
    def expires_at(self) -> datetime | None:
        """Return when the token expires, if it does."""

    @property
    def user_id(self) -> int:
        """Return the user's id."""

    @property
    def role(self) -> str:
        """Return the user's role."""

    @property
    def is_active(self) -> bool:
        """Return whether the user may sign in."""


# Returns the tokens with a prefix. Raises the errors of db.errors.
Find = Callable[[str], Awaitable[Sequence[Caller]]]


class Known:
    """A principal, and how long it is believed: until `ends_at` by the monotonic clock, `expires_at` by the wall's."""

    __slots__ = ("ends_at", "expires_at", "principal", "refresh_at", "token", "token_id")

    def __init__(self, caller: Caller, token: TokenDigest, started: float, life_s: float) -> None:
        self.principal = principal_of(caller.user_id, caller.role)
        self.token = token
        self.token_id = caller.token_id
        self.expires_at = caller.expires_at.timestamp() if caller.expires_at else inf
        self.refresh_at = started + life_s / 2
        self.ends_at = started + life_s


class Authenticator:
    """Finds the principal of a request by its token; it is entered to record the uses of tokens.

    `find` returns the tokens with a prefix, `record` stores when tokens were used last. It keeps at most KNOWN_MAX
    principals and REFUSED_MAX refusals, and makes at most LOOKUPS_MAX look-ups at a time.
    """

    def __init__(
        self,
        find: Find,
        record: Record,
        *,
        cache_ms: int,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._find = find
        self._uses = TokenUses(record)
        self._life_s = cache_ms / 1000
        self._clock, self._wall_clock = clock, wall_clock
        self._known: dict[bytes, Known] = {}  # by the digest of the header; the oldest first
        self._refused: dict[bytes, float] = {}  # until when, likewise
        self._lookups: dict[bytes, asyncio.Task[Known | None]] = {}
        self._pace = Pace()
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to record the uses of tokens."""
        await self._opened.enter_async_context(self._uses)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the look-ups, and record the uses up to now."""
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)
        await self._opened.aclose()

    def known(self, authorization: bytes | None) -> Principal | None:
        """Return the principal of a header, or None if it has to be authenticated; note the use of its token."""
        if authorization is None or len(authorization) > CREDENTIALS_BYTES_MAX:
            return None
        return self._principal(sha256(authorization).digest())

    def _principal(self, key: bytes) -> Principal | None:
        known = self._known.get(key)
        if known is None:
            return None
        now = self._clock()
        if now >= known.refresh_at:
            if now >= known.ends_at:
                return None
            known.refresh_at = now + self._life_s / RETRIES  # if this one fails
            _ = self._look_up(key, known.token)
        used_at = self._wall_clock()
        if used_at >= known.expires_at:
            return None
        self._uses.pending[known.token_id] = used_at
        return known.principal

    async def authenticate(self, authorization: bytes | None, limit_s: float | None = None) -> Principal:
        """Return the principal of a header. Raise a 401, the errors of `find`, and TimedOut after so many seconds."""
        if authorization is None:
            raise ProblemError(UNAUTHENTICATED, "The header Authorization must have a token.", headers=[CHALLENGE])
        found = CREDENTIALS.fullmatch(authorization) if len(authorization) <= CREDENTIALS_BYTES_MAX else None
        if found is None:
            _refuse()
        key = sha256(SCHEME + found[1]).digest()  # however the scheme is written, it is kept once
        if (principal := self._principal(key)) is not None:
            return principal
        token = digest_of(found[1].decode()) if self._refused.get(key, 0) <= self._clock() else None
        if token is None:
            _refuse()
        entered = self._clock()
        known = await _until(self._look_up(key, token), limit_s)
        if known is not None and known.ends_at <= entered:  # it was under way, and has read what may not be so any more
            known = await _until(self._look_up(key, token), limit_s)
        if known is None:
            _refuse()
        self._uses.pending[known.token_id] = self._wall_clock()
        return known.principal

    def _look_up(self, key: bytes, token: TokenDigest) -> "asyncio.Task[Known | None]":
        """Start the look-up of a token, or return the one that is under way.

        That of a token which was known waits neither for the pace nor for those of others: there are few of them.
        """
        if key in self._lookups:
            return self._lookups[key]
        paced = key not in self._known
        if paced and len(self._lookups) >= LOOKUPS_MAX:
            raise Overloaded(f"{LOOKUPS_MAX} tokens are being looked up")
        task = self._lookups[key] = asyncio.create_task(self._found(key, token, paced=paced))
        task.add_done_callback(lambda task: self._forget(key, task))
        return task

    def _forget(self, key: bytes, task: "asyncio.Task[Known | None]") -> None:
        del self._lookups[key]
        if not task.cancelled():
            task.exception()  # which nobody may wait for

    async def _found(self, key: bytes, token: TokenDigest, *, paced: bool) -> Known | None:
        """Look up a token, and keep what is found."""
        if paced:
            await self._pace.wait()
        started = self._clock()
        callers = await self._find(token.prefix)
        matching = [caller for caller in callers if compare_digest(caller.digest, token.digest)]
        known = Known(matching[0], token, started, self._life_s) if matching and matching[0].is_active else None
        self._known.pop(key, None)
        if known is None or known.expires_at <= self._wall_clock():
            self._pace.missed()
            _keep(self._refused, key, started + self._life_s, REFUSED_MAX)
            return None
        _keep(self._known, key, known, KNOWN_MAX)
        self._uses.limit()
        return known


async def _until(lookup: "asyncio.Task[Known | None]", limit_s: float | None) -> Known | None:
    """Wait for a look-up, which goes on if this waiter gives up, as others may wait for it. Raise TimedOut."""
    try:
        async with asyncio.timeout(limit_s):
            return await asyncio.shield(lookup)
    except TimeoutError:
        raise TimedOut("it took too long to find out who calls") from None


def _keep(kept: dict[bytes, V], key: bytes, value: V, most: int) -> None:
    """Keep a value as the newest, in the place of the oldest if there are too many."""
    kept.pop(key, None)
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def _refuse() -> NoReturn:
    raise ProblemError(INVALID_TOKEN, "The token is not valid.", headers=[INVALID_CHALLENGE])
