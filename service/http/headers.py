"""The headers of requests: conditions, time limits and idempotency keys (RFC 9110)."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from service.http.media_types import MEDIA_TYPES, bounded
from service.http.problems import INVALID_HEADER, ProblemError
from service.http.response import Header

Headers = Mapping[bytes, bytes]

# The versions that If-Match names; None without the header, or with `*`.
IfMatch = frozenset[int] | None

# One element of a list, which may be empty (RFC 9110, section 5.6.1).
ENTITY_TAG = re.compile(r'\s*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*)?(?:,|$)')
# As it is written in a response, and so far below the largest int64 that no row gets there. Where a proxy compresses
# responses, Apache (mod_deflate, mod_brotli) and Caddy append the coding's name.
CODING = re.compile("-(?:gzip|br|zstd)$")
VERSION_TAG = re.compile(
    "([1-9][0-9]{0,17})-(?:" + "|".join(media_type.name for media_type in MEDIA_TYPES) + f")(?:{CODING.pattern})?"
)
# X-Request-Timeout, in seconds.
TimeLimit = Annotated[float, Meta(ge=0.001, le=999_999, examples=[2.5])]
read_time_limit = msgspec.json.Decoder(TimeLimit).decode
IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,255}")


def combined(pairs: Sequence[Header]) -> Headers:
    """Return header values by name; a header that was sent several times is one list (RFC 9110, section 5.3)."""
    headers = dict(pairs)
    if len(headers) == len(pairs):
        return headers
    values: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(several) for name, several in values.items()}


def expected_versions(header: bytes | None) -> IfMatch:
    """Return the versions in If-Match: a tag that no response has is none. Raises a 400, and a 431.

    The comparison is to be a strong one (RFC 9110, section 13.1.1), as a weak tag may be that of several
    representations. One of ours is not: it is weak because a proxy has compressed the response (nginx and HAProxy mark
    the tag then), and names one version nevertheless. By a strong comparison no write would succeed behind it.
    """
    if header is None or header.strip() == b"*":
        return None
    found = [VERSION_TAG.fullmatch(opaque) for opaque in entity_tags(header, "If-Match")]
    return frozenset(int(match[1]) for match in found if match)


def has_tag(header: bytes, tag: str) -> bool:
    """Return whether If-None-Match has a tag, by weak comparison, as a proxy may have it. Raises a 400, and a 431."""
    return header.strip() == b"*" or tag in [CODING.sub("", opaque) for opaque in entity_tags(header, "If-None-Match")]


def entity_tags(header: bytes, name: str) -> list[str]:
    """Return the opaque part of each entity tag in a list, weak or not. Raises a 400, and a 431."""
    text, position, tags = bounded(header, name).decode("latin-1"), 0, []
    while position < len(text):
        match = ENTITY_TAG.match(text, position)
        if match is None:
            raise ProblemError(INVALID_HEADER, f'{name} must be * or a list of tags like "1-json".')
        if match[2] is not None:
            tags.append(match[2])
        position = match.end()
    return tags


def time_limit(header: bytes) -> float:
    """Return X-Request-Timeout: the seconds that the client waits for the response. Raises a 400, and a 431."""
    try:
        return read_time_limit(bounded(header, "X-Request-Timeout"))
    except ValueError:  # msgspec's errors, and text that is no UTF-8
        raise ProblemError(INVALID_HEADER, "X-Request-Timeout must be seconds, at least 0.001, like 2.5.") from None


def valid_time_limit(headers: Headers) -> float | None:
    """Return X-Request-Timeout; None if it is absent, or malformed, which is a 400 to those who may come in alone."""
    try:
        return time_limit(headers[b"x-request-timeout"])
    except (KeyError, ProblemError):
        return None
