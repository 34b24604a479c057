"""What every way in gives the authenticator: a credential, whose look-up says who comes with it."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import NamedTuple

from service.auth.principal import Principal


class Identity(NamedTuple):
    """Who comes with a credential: until `expires_at` by the wall's clock, in seconds since 1970."""

    principal: Principal
    expires_at: float = inf
    token_id: int | None = None  # of a stored token, whose use is recorded


# Looks up who comes with a credential; None if nobody may. Raises the errors of db.errors.
Credential = Callable[[], Awaitable[Identity | None]]
# Returns the credential in a text; None for what nobody has to look up. It must be cheap, and not wait.
ReadCredential = Callable[[str], Credential | None]


class Certificate(NamedTuple):
    """The client certificate of a connection, whose chain was verified: its SHA-256, and the names in it."""

    digest: bytes
    names: tuple[str, ...]
    expires_at: float = inf  # by the wall's clock, in seconds since 1970
