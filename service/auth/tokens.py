"""The way in with a stored token: a bearer text that begins with `itm_`."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from hmac import compare_digest
from math import inf
from typing import Protocol

from db.tables.table import Row
from service.auth.identity import Credential, Identity
from service.auth.principal import principal_of
from service.auth.token_text import TokenDigest, digest_of, new_token


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


def new_row(user_id: int, name: str, expires_at: datetime | None) -> tuple[str, Row]:
    """Return the text of a new token of a user, and the row that is stored of it."""
    text = new_token()
    digest = digest_of(text)
    assert digest is not None  # noqa: S101 - narrows the type: a new token is one
    return text, (user_id, name, digest.prefix, expires_at, None, digest.digest)


class StoredTokens:
    """Reads the texts of tokens, and looks up whose they are; `find` returns the tokens with a prefix."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def read(self, text: str) -> Credential | None:
        """Return the credential in a token's text; None for a wrong checksum."""
        token = digest_of(text)
        return partial(self._identify, token) if token else None

    async def _identify(self, token: TokenDigest) -> Identity | None:
        callers = await self._find(token.prefix)
        matching = [caller for caller in callers if compare_digest(caller.digest, token.digest)]
        if not matching or not matching[0].is_active:
            return None
        caller = matching[0]
        expires_at = caller.expires_at.timestamp() if caller.expires_at else inf
        return Identity(principal_of(caller.user_id, caller.role), expires_at, caller.token_id)
