"""The two media types, and which of them a request has and accepts (RFC 9110, section 12)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from db.types import WholeSecond
from service.http.problems import (
    CONTENT_TYPE,
    HEADER_TOO_LARGE,
    NOT_ACCEPTABLE,
    UNSUPPORTED_MEDIA_TYPE,
    ProblemError,
)


@dataclass(frozen=True, eq=False)  # compared by identity: it is a key of dictionaries
class MediaType:
    """A media type, with the codecs for it; those of msgspec decode a type that is given before."""

    name: str
    content_type: str
    encode: Callable[[Any], bytes]
    decoder: Callable[[Any], msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]]


@lru_cache(maxsize=1024)  # the rows of one batch, and what a catalogue brought along, have few of them
def _text(value: Any) -> str:
    """Return a timestamp with six digits of a second, as all others have: msgspec leaves out a fraction of zero."""
    if isinstance(value, WholeSecond):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise NotImplementedError


def _timestamp(value: Any) -> datetime:
    """Return a timestamp of the type that msgspec encodes."""
    if isinstance(value, WholeSecond):
        return datetime.combine(value.date(), value.timetz())
    raise NotImplementedError


JSON = MediaType("json", "application/json", msgspec.json.Encoder(enc_hook=_text).encode, msgspec.json.Decoder)
MSGPACK = MediaType(
    "msgpack", "application/msgpack", msgspec.msgpack.Encoder(enc_hook=_timestamp).encode, msgspec.msgpack.Decoder
)
MEDIA_TYPES = (JSON, MSGPACK)  # the first is preferred

PROBLEM_TYPE = CONTENT_TYPE.decode()
OFFERED = ", ".join(media_type.content_type for media_type in MEDIA_TYPES)


@dataclass(frozen=True, eq=False)
class BodyTypes:
    """The media types that the body of an operation may have, by name, and the headers of a 415 that list them."""

    by_name: Mapping[str, MediaType]
    headers: tuple[bytes, ...] = (b"accept",)

    @property
    def offered(self) -> str:
        """Return the names of the media types as a list in a header."""
        return ", ".join(self.by_name)


ANY_BODY = BodyTypes({media_type.content_type: media_type for media_type in MEDIA_TYPES})
# Accept-Patch: RFC 5789, section 2.2. A batch is no merge patch (RFC 7396), which could only replace the whole list.
BATCH_PATCH = BodyTypes(ANY_BODY.by_name, (b"accept", b"accept-patch"))
MERGE_PATCH = BodyTypes({**ANY_BODY.by_name, "application/merge-patch+json": JSON}, BATCH_PATCH.headers)

# Of a header that is parsed, which stops the event loop: 1 KiB of Accept for 0.6 ms at most, of entity tags for 0.5 ms,
# and the 64 KiB that a request's head may have for 40 ms. A browser's Accept has some 200 bytes.
HEADER_BYTES_MAX = 1024
SHOWN_CHARACTERS_MAX = 100


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
    header = bounded(accept or b"", "Accept").decode("latin-1").lower()
    ranges = [_range(part) for part in header.split(",") if part.strip()] or [("*/*", 1.0)]
    best = max(MEDIA_TYPES, key=lambda media_type: _quality(media_type, ranges))
    if _quality(best, ranges) > 0:
        return best
    qualities = dict(ranges)
    if qualities.get(PROBLEM_TYPE, 0) > 0 and JSON.content_type not in qualities:
        return JSON  # a client that reads problems reads JSON; generated ones may accept nothing else
    raise ProblemError(NOT_ACCEPTABLE, f"Accept must allow one of {OFFERED}.")


@lru_cache(maxsize=256)
def for_content_type(content_type: bytes | None, body_types: BodyTypes) -> MediaType:
    """Return the media type of the body, from Content-Type. Raises a 415, and a 431: neither is cached."""
    header = bounded(content_type or b"", "Content-Type").decode("latin-1").lower()
    name, *parameters = (part.strip() for part in header.split(";"))
    charset = dict(_parameter(part) for part in parameters).get("charset", "utf-8").strip('"')
    if name in body_types.by_name and charset in {"utf-8", "utf8"}:
        return body_types.by_name[name]
    sent = f"not {shown(content_type)}" if content_type else "but there is none"
    headers = [(name, body_types.offered.encode()) for name in body_types.headers]
    text = f"Content-Type must be one of {body_types.offered}, {sent}."
    raise ProblemError(UNSUPPORTED_MEDIA_TYPE, text, headers=headers)


def shown(header: bytes) -> str:
    """Return a header's text as a problem repeats it."""
    return header.decode("latin-1")[:SHOWN_CHARACTERS_MAX]


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value


def _range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in text.split(";"))
    weight = next((value for key, value in map(_parameter, parameters) if key == "q"), "1")
    try:
        quality = float(weight)
    except ValueError:
        return name, 0.0
    return name, quality if 0 <= quality <= 1 else 0.0


def _quality(media_type: MediaType, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that covers a media type; 0 if none does."""
    names = (media_type.content_type, "application/*", "*/*")
    matching = ([quality for covered, quality in ranges if covered == name] for name in names)
    return next((max(qualities) for qualities in matching if qualities), 0.0)
