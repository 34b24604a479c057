"""The two media types, and which of them a request has and accepts (RFC 9110, section 12)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from service.http.problems import HEADER_TOO_LARGE, NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, ProblemError
from service.http.response import Header

T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """What msgspec's decoders have in common."""

    def decode(self, body: bytes, /) -> T_co:
        """Return the value of a body. Raises msgspec.ValidationError if it does not fit the type."""


@dataclass(frozen=True, eq=False)  # compared by identity: it is a key of dictionaries
class MediaType:
    """A media type, with the codecs for it."""

    name: str
    content_type: str
    encode: Callable[[Any], bytes]
    decoder: Callable[[Any], Decoder[Any]]

    @cached_property
    def tag(self) -> bytes:
        """Return the pattern of an entity tag: the version, then the media type's name."""
        return b'"%d-' + self.name.encode() + b'"'

    @cached_property
    def headers(self) -> tuple[Header, ...]:
        """Return the headers that every response in this media type has."""
        return (b"content-type", self.content_type.encode()), (b"vary", b"Accept")


JSON = MediaType("json", "application/json", msgspec.json.Encoder().encode, msgspec.json.Decoder)
MSGPACK = MediaType("msgpack", "application/msgpack", msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder)
MEDIA_TYPES = (JSON, MSGPACK)  # the first is preferred

OFFERED = ", ".join(media_type.content_type for media_type in MEDIA_TYPES)

# Of a header that is parsed, which stops the event loop: 1 KiB of Accept for 0.6 ms at most, of entity tags for 0.5 ms,
# and the 64 KiB that a request's head may have for 40 ms. A browser's Accept has some 200 bytes.
HEADER_BYTES_MAX = 1024


def bounded(header: bytes, name: str) -> bytes:
    """Return a header, unless it is too long to be parsed. Raises a 431 (RFC 6585, section 5)."""
    if len(header) > HEADER_BYTES_MAX:
        raise ProblemError(HEADER_TOO_LARGE, f"{name} may have {HEADER_BYTES_MAX} bytes at most.")
    return header


@lru_cache(maxsize=256)
def negotiate(accept: bytes | None) -> MediaType:
    """Return the media type of the response, from Accept. Raises a 406, and a 431: neither is cached.

    A server may also disregard an Accept that is too large (RFC 9110, section 12.5.1). A client would then have to find
    out from a response that it cannot read, maybe after a write.
    """
    if accept is None:
        return JSON
    ranges = [_range(part) for part in bounded(accept, "Accept").decode("latin-1").split(",") if part.strip()]
    if not ranges:
        return JSON
    best = max(MEDIA_TYPES, key=lambda media_type: _quality(media_type, ranges))
    if _quality(best, ranges) <= 0:
        raise ProblemError(NOT_ACCEPTABLE, f"Accept must allow one of {OFFERED}.")
    return best


@lru_cache(maxsize=256)
def for_content_type(content_type: bytes | None) -> MediaType:
    """Return the media type of the body, from Content-Type. Raises a 415, and a 431: neither is cached."""
    name, _, parameters = bounded(content_type or b"", "Content-Type").decode("latin-1").lower().partition(";")
    for media_type in MEDIA_TYPES:
        if name.strip() == media_type.content_type and _is_utf8(parameters):
            return media_type
    raise ProblemError(
        UNSUPPORTED_MEDIA_TYPE,
        f"Content-Type must be one of {OFFERED}.",
        headers=[(b"accept", OFFERED.encode())],
    )


def _is_utf8(parameters: str) -> bool:
    given = dict(part.strip().partition("=")[::2] for part in parameters.split(";") if part.strip())
    return given.get("charset", "utf-8").strip('"') in {"utf-8", "utf8"}


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in text.lower().split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return name, 0.0
            return name, quality if 0 <= quality <= 1 else 0.0
    return name, 1.0


def _quality(media_type: MediaType, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that covers a media type; 0 if none does."""
    for name in (media_type.content_type, "application/*", "*/*"):
        matching = [quality for covered, quality in ranges if covered == name]
        if matching:
            return max(matching)
    return 0.0
