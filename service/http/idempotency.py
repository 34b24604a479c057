"""Idempotency keys in HTTP: the scope and fingerprint of a request with one, and the response that is stored for it.

Source: draft-ietf-httpapi-idempotency-key-header.
"""

from hashlib import blake2b
from http import HTTPStatus

import msgspec
from msgspec.structs import replace
from starlette.types import Scope

from service.http.headers import Headers, idempotency_key
from service.http.media_types import MediaType
from service.http.problems import Problem
from service.http.response import Header, Response

REPLAYED: Header = (b"idempotency-replayed", b"true")
DIGEST_BYTES = 20

encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(Response)
problem_decoder = msgspec.json.Decoder(Problem)


def digests(scope: Scope, headers: Headers, body: bytes, media_type: MediaType) -> tuple[str, str]:
    """Return the scope of a request's key and the fingerprint of the request, in hexadecimal. Raises a 400.

    The scope is the method, the path and the key. All clients share it, as the service does not identify clients.
    """
    key = idempotency_key(headers[b"idempotency-key"])
    key_scope = _digest(scope["method"].encode(), scope["path"].encode(), key)
    parts = (headers.get(b"content-type", b""), headers.get(b"if-match", b""), media_type.name.encode())
    return key_scope, _digest(scope["query_string"], *parts, body)


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def encode_response(response: Response) -> bytes:
    """Encode a response for storage."""
    return encoder.encode(response)


def decode_replay(stored: bytes, request_id: bytes) -> Response:
    """Decode a stored response as the replay for another request, whose id a problem then has."""
    response = decoder.decode(stored)
    body = response.body
    if response.status >= HTTPStatus.BAD_REQUEST:
        body = msgspec.json.encode(replace(problem_decoder.decode(body), request_id=request_id.decode()))
    return Response(response.status, [*response.headers, REPLAYED], body)
