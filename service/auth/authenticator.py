"""Authentication: who calls, from the header Authorization (RFC 6750) or the client certificate of the connection.

    a credential -> known: its principal, without a wait; looked up again in the background from half its life on
                `-> refused before, malformed, or with a wrong checksum: a 401, without a look-up
                `-> looked up: one look-up at a time for each, and paced while most of them find nothing

What a look-up found, or that it found nothing, is believed for `cache_ms` from its start: a token that is revoked and a
user who is deactivated or gets another role count for no longer. The time at which a credential expires counts at once.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from hashlib import sha256
from time import monotonic, time
from typing import NamedTuple, Self, TypeVar

from db.errors import Overloaded, TimedOut
from service.auth.identity import Certificate, Credential, Identity, ReadCredential
from service.auth.pace import Pace
from service.auth.refusals import refuse, refuse_nobody
from service.auth.token_text import PREFIX
from service.auth.token_uses import Record, TokenUses
from service.observability.current_request import request_context

SCHEME = b"Bearer "
CREDENTIALS = re.compile(rb"bearer +([0-9A-Za-z._~+/-]+=*)", re.IGNORECASE)
HEADER_BYTES_MAX = 256  # of a header with a stored token
JWT_HEADER_BYTES_MAX = 8192  # where it may have a JWT

KNOWN_MAX = 10_000  # principals that are kept
REFUSED_MAX = 10_000  # credentials of which it is kept that they are refused, apart: they push out no principal
REVOKED_MAX = 1000  # tokens that were revoked here, for look-ups that were under way then
LOOKUPS_MAX = 1000  # at a time; then a 503
RETRIES = 8  # of a look-up in the background, within the life of what it would replace

K = TypeVar("K")
V = TypeVar("V")


class WaysIn(NamedTuple):
    """How callers may come in; None: not in this way."""

    token: ReadCredential | None = None  # a bearer text that begins with `itm_`
    jwt: ReadCredential | None = None  # any other bearer text
    certificate: Callable[[Certificate], Credential | None] | None = None
    used: Sequence[AbstractAsyncContextManager[object]] = ()  # by them, which the authenticator enters

    def read(self, text: str) -> Credential | None:
        """Return the credential in a bearer text; None for what nobody has to look up."""
        way = self.token if text.startswith(PREFIX) else self.jwt
        return way(text) if way else None


class Known:
    """A principal, and how long it is believed: until `ends_at` by the monotonic clock, `expires_at` by the wall's."""

    __slots__ = ("credential", "ends_at", "expires_at", "principal", "refresh_at", "token_id")

    def __init__(self, identity: Identity, credential: Credential, started: float, life_s: float) -> None:
        self.principal, self.expires_at, self.token_id = identity
        self.credential = credential
        self.refresh_at = started + life_s / 2
        self.ends_at = started + life_s


class Authenticator:
    """Finds the principal of a request by its credential; it is entered to record the uses of tokens.

    `record` stores when tokens were used last. It keeps at most KNOWN_MAX principals and REFUSED_MAX refusals, and
    makes at most LOOKUPS_MAX look-ups at a time.
    """

    def __init__(
        self,
        ways: WaysIn,
        record: Record,
        *,
        cache_ms: int,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._ways = ways
        self._bytes_max = JWT_HEADER_BYTES_MAX if ways.jwt else HEADER_BYTES_MAX
        self._uses = TokenUses(record)
        self._life_s = cache_ms / 1000
        self._clock, self._wall_clock = clock, wall_clock
        self._known: dict[bytes, Known] = {}  # by the digest of the header, or of the certificate; the oldest first
        self._refused: dict[bytes, float] = {}  # until when, likewise
        self._revoked: dict[int, None] = {}  # ids, which are never used again
        self._lookups: dict[bytes, asyncio.Task[Known | None]] = {}
        self._pace = Pace()
        self._used = [self._uses, *ways.used]
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to record the uses of tokens, and enter what the ways in use."""
        for each in self._used:
            await self._opened.enter_async_context(each)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the look-ups, and record the uses up to now."""
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)
        await self._opened.aclose()

    def known(self, authorization: bytes | None, certificate: Certificate | None = None) -> Known | None:
        """Return who comes with a request, or None if that has to be authenticated; note the use of a token."""
        if authorization is not None:
            return None if len(authorization) > self._bytes_max else self._kept(sha256(authorization).digest())
        return None if certificate is None else self._kept(_key_of(certificate))

    def is_over(self, known: Known) -> bool:
        """Return whether a principal is to be authenticated anew, as after a body that took its time."""
        return self._clock() >= known.ends_at or self._wall_clock() >= known.expires_at

    def revoke(self, token_id: int) -> None:
        """Refuse a token that was deleted, from now on."""
        _keep(self._revoked, token_id, None, REVOKED_MAX)
        for key in [key for key, known in self._known.items() if known.token_id == token_id]:
            del self._known[key]

    def _kept(self, key: bytes) -> Known | None:
        known = self._known.get(key)
        if known is None:
            return None
        now = self._clock()
        if now >= known.refresh_at:
            if now >= known.ends_at:
                return None
            known.refresh_at = now + self._life_s / RETRIES  # if this one fails
            _ = self._look_up(key, known.credential)
        used_at = self._wall_clock()
        if used_at >= known.expires_at:
            return None
        if known.token_id is not None:
            self._uses.pending[known.token_id] = used_at
        return known

    async def authenticate(
        self,
        authorization: bytes | None,
        certificate: Certificate | None = None,
        deadline: float | None = None,
        *,
        anew: bool = False,
    ) -> Known:
        """Return who comes with a request. Raise a 401, the look-up's errors, and TimedOut at the deadline.

        A header counts before a certificate, also one that is wrong. `anew` looks up who was known, too.
        """
        key, read = self._presented(authorization, certificate)
        if not anew and (known := self._kept(key)) is not None:
            return known
        credential = read() if self._refused.get(key, 0) <= self._clock() else None
        if credential is None:
            refuse(authorization)
        known = await self._authenticated(key, credential, deadline)
        if known is None:
            refuse(authorization)
        return known

    def _presented(
        self, authorization: bytes | None, certificate: Certificate | None
    ) -> tuple[bytes, Callable[[], Credential | None]]:
        """Return what came with a request: what it is kept by, and what reads the credential in it. Raise a 401."""
        if authorization is not None:
            found = CREDENTIALS.fullmatch(authorization) if len(authorization) <= self._bytes_max else None
            if found is None:
                refuse(authorization)
            # However the scheme is written, it is kept once.
            return sha256(SCHEME + found[1]).digest(), partial(self._ways.read, found[1].decode())
        if certificate is None or self._ways.certificate is None:
            refuse_nobody(takes_tokens=bool(self._ways.token or self._ways.jwt))
        return _key_of(certificate), partial(self._ways.certificate, certificate)

    async def _authenticated(self, key: bytes, credential: Credential, deadline: float | None) -> Known | None:
        """Return who a look-up finds, as it is no earlier than `cache_ms` before now; None: nobody."""
        entered = self._clock()
        known = await _until(self._look_up(key, credential), deadline)
        if known is not None and known.ends_at <= entered:  # it was under way, and has read what may not be so any more
            known = await _until(self._look_up(key, credential), deadline)
        if known is not None and known.token_id is not None:
            self._uses.pending[known.token_id] = self._wall_clock()
        return known

    def _look_up(self, key: bytes, credential: Credential) -> "asyncio.Task[Known | None]":
        """Start the look-up of a credential, or return the one that is under way.

        That of one which was known waits neither for the pace nor for those of others: there are few of them.
        """
        if key in self._lookups:
            return self._lookups[key]
        paced = key not in self._known
        if paced and len(self._lookups) >= LOOKUPS_MAX:
            raise Overloaded(f"{LOOKUPS_MAX} callers are being looked up")
        found = self._found(key, credential, paced=paced)
        task = self._lookups[key] = asyncio.create_task(found, context=request_context())
        task.add_done_callback(lambda task: self._forget(key, task))
        return task

    def _forget(self, key: bytes, task: "asyncio.Task[Known | None]") -> None:
        del self._lookups[key]
        if not task.cancelled():
            task.exception()  # which nobody may wait for

    async def _found(self, key: bytes, credential: Credential, *, paced: bool) -> Known | None:
        """Look up a credential, and keep what is found."""
        if paced:
            await self._pace.wait()
        started = self._clock()
        identity = await credential()
        self._known.pop(key, None)
        if identity is None or identity.token_id in self._revoked or identity.expires_at <= self._wall_clock():
            self._pace.missed()
            _keep(self._refused, key, started + self._life_s, REFUSED_MAX)
            return None
        known = Known(identity, credential, started, self._life_s)
        _keep(self._known, key, known, KNOWN_MAX)
        self._uses.limit()
        return known


def _key_of(certificate: Certificate) -> bytes:
    """Return what a certificate is kept by, which no header is kept by."""
    return b"certificate" + certificate.digest


async def _until(lookup: "asyncio.Task[Known | None]", deadline: float | None) -> Known | None:
    """Wait for a look-up, which goes on if this waiter gives up, as others may wait for it. Raise TimedOut."""
    try:
        async with asyncio.timeout_at(deadline):
            return await asyncio.shield(lookup)
    except TimeoutError:
        raise TimedOut("it took too long to find out who calls") from None


def _keep(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value as the newest, in the place of the oldest if there are too many."""
    kept.pop(key, None)
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
