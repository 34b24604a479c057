"""Idempotency keys in HTTP: the scope and fingerprint of a request with one, and the response that is stored for it.

Source: draft-ietf-httpapi-idempotency-key-header.
"""

from collections.abc import Collection
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace
from starlette.types import Scope

from service.http.headers import IDEMPOTENCY_KEY, Headers
from service.http.media_types import MediaType
from service.http.problems import INVALID_HEADER, Problem, ProblemError
from service.http.response import Header, Response
from service.http.validation import struct_fields, type_parts

REPLAYED: Header = (b"idempotency-replayed", b"true")
DIGEST_BYTES = 20

encode_response = msgspec.msgpack.Encoder().encode
decoder = msgspec.msgpack.Decoder(Response)
problem_decoder = msgspec.json.Decoder(Problem)


def digests(scope: Scope, headers: Headers, body: bytes, media_type: MediaType) -> tuple[str, str]:
    """Return the scope of a request's key and the fingerprint of the request, in hexadecimal. Raises a 400.

    The scope is the method, the path and the key. All clients share it, as the service does not identify clients.
    """
    key = headers[b"idempotency-key"]
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise ProblemError(INVALID_HEADER, "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    key_scope = _digest(scope["method"].encode(), scope["path"].encode(), key)
    parts = (headers.get(b"content-type", b""), headers.get(b"if-match", b""), media_type.name.encode())
    return key_scope, _digest(scope["query_string"], *parts, body)


def secret_fields(kind: Any) -> list[str]:
    """Return the fields of a type's Structs, or of those in its lists, whose Meta has `extra={"secret": True}`."""
    metas = [(name, part) for name, field in struct_fields(kind).items() for part in type_parts(field.type)]
    return [name for name, part in metas if isinstance(part, Meta) and (part.extra or {}).get("secret")]


def without_secrets(secrets: Collection[str], value: Any, body: bytes) -> bytes:
    """Return a body, or if it may have secrets, its value's encoding that has of each only whether it is there.

    A stored fingerprint would let guesses be checked, at the speed of its hash.
    """
    if not secrets:
        return body
    plain = msgspec.to_builtins(value)
    for member in plain if isinstance(plain, list) else [plain]:
        member.update({name: member[name] is not None for name in secrets if name in member})
    return msgspec.msgpack.encode(plain)


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def decode_replay(stored: bytes, request_id: bytes) -> Response:
    """Decode a stored response as the replay for another request, whose id a problem then has."""
    response = decoder.decode(stored)
    body = response.body
    if response.status >= HTTPStatus.BAD_REQUEST:
        body = msgspec.json.encode(replace(problem_decoder.decode(body), request_id=request_id.decode()))
    return Response(response.status, [*response.headers, REPLAYED], body)
