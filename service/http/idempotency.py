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

from service.http.headers import IDEMPOTENCY_KEY
from service.http.problems import INVALID_HEADER, Problem, ProblemError
from service.http.response import Header, Response
from service.http.validation import struct_fields, type_parts

REPLAYED: Header = (b"idempotency-replayed", b"true")
DIGEST_BYTES = 20

encode_response = msgspec.msgpack.Encoder().encode
encode_request = msgspec.msgpack.Encoder(order="deterministic").encode  # which sorts sets
decoder = msgspec.msgpack.Decoder(Response)
problem_decoder = msgspec.json.Decoder(Problem)


def key_scope(scope: Scope, key: bytes, caller: int | None = None) -> str:
    """Return the digest of what a key is for, the method and the path, and of the key, in hexadecimal. Raises a 400.

    Each caller, a user's id, has keys of its own; without authentication all clients share them.
    """
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise ProblemError(INVALID_HEADER, "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    of_caller = () if caller is None else (b"%d" % caller,)
    parts = (*of_caller, scope["method"].encode(), scope["path"].encode(), key)
    return _digest(b"".join(b"%d:%b" % (len(part), part) for part in parts))


def fingerprint(request: Any) -> str:
    """Return the digest of all else that a request asks for, in hexadecimal.

    It is made of the decoded values, so that requests which have the same response are the same one, however they are
    written: the order of members, blanks, escapes, the media type of the body, the form of an entity tag. Create
    Structs have `omit_defaults`, so that a field that a later version adds does not make another request of a repeat.
    """
    return _digest(encode_request(request))


def secret_fields(kind: Any) -> list[str]:
    """Return the fields of a type's Structs, or of those in its lists, whose Meta has `extra={"secret": True}`."""
    metas = [(name, part) for name, field in struct_fields(kind).items() for part in type_parts(field.type)]
    return [name for name, part in metas if isinstance(part, Meta) and (part.extra or {}).get("secret")]


def without_secrets(secrets: Collection[str], value: Any) -> Any:
    """Return the value of a body, or if it may have secrets, one that has of each only whether it is there.

    A stored fingerprint would let guesses be checked, at the speed of its hash.
    """
    if not secrets:
        return value
    plain = msgspec.to_builtins(value)
    for member in plain if isinstance(plain, list) else [plain]:
        member.update({name: member[name] is not None for name in secrets if name in member})
    return plain


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def decode_replay(stored: bytes, request_id: bytes) -> Response:
    """Decode a stored response as the replay for another request, whose id a problem then has."""
    response = decoder.decode(stored)
    body = response.body
    if response.status >= HTTPStatus.BAD_REQUEST:
        body = msgspec.json.encode(replace(problem_decoder.decode(body), request_id=request_id.decode()))
    return Response(response.status, [*response.headers, REPLAYED], body)
