"""The way in with a client certificate: the names in it lead to a user."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from hashlib import sha256
from typing import Any, Protocol

from service.auth.identity import Certificate, Credential, Identity
from service.auth.principal import principal_of

NAMES_MAX = 8  # of a certificate that are looked up


class User(Protocol):
    """A user, as the database has it."""

    @property
    def user_id(self) -> int:
        """Return the user's id."""

    @property
    def role(self) -> str:
        """Return the user's role."""

    @property
    def is_active(self) -> bool:
        """Return whether the user may sign in."""


# Returns the user with a username or email, None if there is none. Raises the errors of db.errors.
FindUser = Callable[[str], Awaitable[User | None]]


class ClientCertificates:
    """Reads certificates, and looks up whose they are; `find` returns the user with a username or email."""

    def __init__(self, find: FindUser) -> None:
        self._find = find

    def read(self, certificate: Certificate) -> Credential | None:
        """Return the credential in a certificate; None for one without a name."""
        return partial(self._identify, certificate) if 0 < len(certificate.names) <= NAMES_MAX else None

    async def _identify(self, certificate: Certificate) -> Identity | None:
        """Return the one user whom the names lead to: those of two are not to choose between."""
        found = await asyncio.gather(*map(self._find, certificate.names))
        users = {user.user_id: user for user in found if user is not None}
        if len(users) != 1:
            return None
        [user] = users.values()
        return Identity(principal_of(user.user_id, user.role), certificate.expires_at) if user.is_active else None


def certificate_of(tls: ssl.SSLObject, kind: str) -> Certificate | None:
    """Return the client's certificate, which was verified, with its names of a kind; None if it has sent none."""
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    fields: dict[str, Any] = tls.getpeercert() or {}
    expires_at = ssl.cert_time_to_seconds(fields["notAfter"])
    return Certificate(sha256(der).digest(), tuple(names_of(fields, kind)), expires_at)


def names_of(fields: dict[str, Any], kind: str) -> list[str]:
    """Return the names of a kind in a certificate, as ssl.SSLSocket.getpeercert() has it, each once.

    The common name is not a user's where there are alternative names for it (RFC 9525, section 2), unless it is
    asked for.
    """
    alternative = fields.get("subjectAltName", ())
    emails = [value for name, value in alternative if name == "email"]
    hosts = [value.lower() for name, value in alternative if name == "DNS"]
    common = [value for part in fields.get("subject", ()) for name, value in part if name == "commonName"]
    names: dict[str, Iterable[str]] = {"email": emails, "dns": hosts, "cn": common}
    names["san"] = [*emails, *hosts] if alternative else common
    return list(dict.fromkeys(names[kind]))
