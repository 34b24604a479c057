"""Tokens as tests make them: a store of them in memory, and a service whose callers have them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import NamedTuple

import httpx
from starlette.types import Receive, Scope, Send

from db.tables.call import Call
from service.app import create_app
from service.auth.authenticator import Authenticator, WaysIn
from service.auth.caller_limits import CallerLimits
from service.auth.token_text import digest_of, new_token
from service.auth.tokens import StoredTokens
from service.settings import Settings


class StoredToken(NamedTuple):
    """A token as it is stored, and its user."""

    token_id: int
    digest: str
    expires_at: datetime | None
    user_id: int
    role: str
    is_active: bool


class MemoryTokens:
    """A store of tokens: it counts the look-ups, and those that leave together as one."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredToken] = {}  # by the token's text
        self.lookups = 0
        self.statements = 0
        self.uses: list[Mapping[int, datetime]] = []
        self.error: Exception | None = None  # raised in place of a result
        self.gate = asyncio.Event()  # look-ups wait for it
        self.gate.set()
        self._by_prefix: defaultdict[str, list[str]] = defaultdict(list)
        self._numbers = count(1)
        self._is_open = False

    def issue(
        self, user_id: int, role: str = "writer", *, expires_at: datetime | None = None, is_active: bool = True
    ) -> str:
        """Store a new token of a user, and return its text."""
        text = new_token()
        found = digest_of(text)
        assert found is not None
        self.rows[text] = StoredToken(next(self._numbers), found.digest, expires_at, user_id, role, is_active)
        self._by_prefix[found.prefix].append(text)
        return text

    def change(self, text: str, **fields: object) -> None:
        """Change what is stored of a token or its user."""
        self.rows[text] = self.rows[text]._replace(**fields)  # type: ignore[arg-type] # as the caller says

    def revoke(self, text: str) -> None:
        """Forget a token."""
        del self.rows[text]

    async def find(self, prefix: str) -> list[StoredToken]:
        """Return the tokens with a prefix."""
        self.lookups += 1
        if not self._is_open:
            self._is_open = True
            self.statements += 1
            asyncio.get_running_loop().call_soon(self._close)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [self.rows[text] for text in self._by_prefix[prefix] if text in self.rows]

    def _close(self) -> None:
        self._is_open = False

    async def record(self, _call: Call, times: Mapping[int, datetime]) -> None:
        """Store when tokens were used."""
        if self.error is not None:
            raise self.error
        self.uses.append(times)


def bearer(token: str) -> dict[str, str]:
    """Return the headers of a caller with a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serving_callers(
    settings: Settings, tokens: MemoryTokens, caller_limits: CallerLimits | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a whole service inside this process whose callers have tokens, and yield a client without one.

    Its `caller_limits` are those of the settings, if there are no others.
    """
    app = create_app(settings)
    authenticator = Authenticator(WaysIn(token=StoredTokens(tokens.find).read), tokens.record, cache_ms=5000)
    async with app.lifespan_context(app) as state, authenticator:
        context = dict(state or {})["context"]._replace(authenticator=authenticator)
        if caller_limits is not None:
            context = context._replace(caller_limits=caller_limits)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {"context": context}}, receive, send)

        transport = httpx.ASGITransport(serve, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://items.test") as client:
            yield client
