"""An issuer of JWTs: its keys, its tokens, also such as nobody should accept, and its key set over HTTP on loopback."""

import asyncio
import hmac
import json
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from joserfc import jws
from joserfc.jwk import JWKRegistry, Key

from service.auth.key_source import UrlSource
from service.jwks_location import location

ISSUER, AUDIENCE = "https://login.example.org/", "https://items.example.org"
LIFE_S = 300
TYPES: dict[str, tuple[str, int | str]] = {
    "RS256": ("RSA", 2048),
    "ES256": ("EC", "P-256"),
    "Ed25519": ("OKP", "Ed25519"),
}
MISSING: Any = object()  # in the place of a claim or header parameter that a token is not to have


class SigningKey(NamedTuple):
    """A private key, and the id and algorithm that its tokens have."""

    kid: str | None
    algorithm: str
    key: Key

    def public(self, **members: Any) -> dict[str, Any]:
        """Return the public key as a member of a key set."""
        jwk = {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig", **members}
        return {name: value for name, value in jwk.items() if value is not None and value is not MISSING}


def signing_key(kid: str | None = "one", algorithm: str = "ES256") -> SigningKey:
    """Return a key, which is generated once."""
    return _generated(kid, algorithm)


@cache
def _generated(kid: str | None, algorithm: str) -> SigningKey:
    key_type, parameter = TYPES[algorithm]
    return SigningKey(kid, algorithm, JWKRegistry.generate_key(key_type, parameter))


def encoded(part: Mapping[str, Any] | bytes) -> str:
    """Return a part of a token."""
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def claims_of(subject: object, now: float | None = None, **claims: Any) -> dict[str, Any]:
    """Return the claims of a token that is valid, but for those that are given."""
    now = time.time() if now is None else now
    standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": int(now), "exp": int(now) + LIFE_S}
    return {name: value for name, value in {**standard, **claims}.items() if value is not MISSING}


def signed(
    claims: Mapping[str, Any] | bytes,
    key: SigningKey | None = None,
    header: Mapping[str, Any] | bytes = b"",
    secret: bytes | None = None,
) -> str:
    """Return a token: signed by a key, with a secret (HS256), or with an empty one not at all.

    `header` has what differs from the usual one, or all of it as it is written.
    """
    key = key or signing_key()
    if not isinstance(header, bytes) or not header:
        usual = {"alg": key.algorithm, "typ": "JWT", "kid": key.kid, **(header or {})}
        header = {name: value for name, value in usual.items() if value is not None and value is not MISSING}
    head = f"{encoded(header)}.{encoded(claims)}"
    if secret is not None:
        signature = hmac.digest(secret, head.encode(), "sha256") if secret else b""
    else:
        signature = jws.JWSRegistry.algorithms[key.algorithm].sign(head.encode(), key.key)
    return f"{head}.{encoded(signature)}"


class Issuer:
    """Serves a key set, and counts how often it is fetched."""

    def __init__(self, *keys: SigningKey) -> None:
        self.key_set: Any = {"keys": [key.public() for key in keys or (signing_key(),)]}
        self.fetches = 0
        self.heads: list[str] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.content: bytes | None = None  # in the place of the key set
        self.gate = asyncio.Event()  # responses wait for it
        self.gate.set()
        self.url = ""

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the key set."""
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self.fetches += 1
            await self.gate.wait()
            body = json.dumps(self.key_set).encode() if self.content is None else self.content
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **self.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{head}\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):  # the client is gone
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuing(*keys: SigningKey, tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    """Return an issuer that serves its key set until the block is left."""
    issuer = Issuer(*keys)
    server = await asyncio.start_server(issuer.respond, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    issuer.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/jwks.json"
    try:
        yield issuer
    finally:
        issuer.gate.set()
        server.close()
        await server.wait_closed()


def url_source(url: str) -> UrlSource:
    """Return the source of the keys at a URL."""
    place = location(url)
    assert not isinstance(place, Path)
    return UrlSource(place)
