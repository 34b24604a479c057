"""Idempotency keys on the wire: what a key holds for, and what a repeat is answered with."""

from collections.abc import Sequence
from hashlib import blake2b
from http import HTTPStatus

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.types import Scope

from service.http.headers import Headers, idempotency_key
from service.http.media_types import MediaType
from service.http.problems import Header, Problem

REPLAYED: Header = (b"idempotency-replayed", b"true")
DIGEST_BYTES = 20


class Kept(Struct, array_like=True, frozen=True):
    """An answer, as it was sent the first time."""

    status: int
    headers: list[Header]
    body: bytes


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(Kept)
problem_decoder = msgspec.json.Decoder(Problem)


def digests(scope: Scope, headers: Headers, body: bytes, media: MediaType) -> tuple[str, str]:
    """Return where a request's key holds, and a fingerprint of what was sent with it. Raises a 400.

    A key holds for one method and path. Callers are not told apart, as nobody is asked who they are.
    """
    key = idempotency_key(headers[b"idempotency-key"])
    where = _digest(scope["method"].encode(), scope["path"].encode(), key)
    sent = (headers.get(b"content-type", b""), headers.get(b"if-match", b""), media.name.encode())
    return where, _digest(scope["query_string"], *sent, body)


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def kept(answer: tuple[int, Sequence[Header], bytes]) -> bytes:
    """Write an answer down."""
    return encoder.encode(answer)


def replayed(answer: bytes, request_id: bytes) -> tuple[int, list[Header], bytes]:
    """Return an answer as it was, to another request."""
    status, headers, body = msgspec.structs.astuple(decoder.decode(answer))
    if status >= HTTPStatus.BAD_REQUEST:
        body = msgspec.json.encode(replace(problem_decoder.decode(body), request_id=request_id.decode()))
    return status, [*headers, REPLAYED], body
