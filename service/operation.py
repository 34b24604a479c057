"""A handler's signature is its contract: from it an operation knows what to decode, and the document what to say.

What a handler may ask for, by name: `context`; `body` and `query`, decoded into their annotation; `if_match`, the
versions that the caller expects; any other name is a part of the path. It returns a value to encode, a Reply, or None
for a 204.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec
from starlette.types import Receive, Scope, Send

from service import faults
from service.context import Context
from service.media import MEDIA, Media, acceptable, supported
from service.problems import (
    BODY_TOO_LARGE,
    INVALID_BODY,
    INVALID_HEADER,
    MALFORMED_BODY,
    METHOD_NOT_ALLOWED,
    NO_SUCH_PATH,
    Fault,
    Header,
    Kind,
    ProblemError,
)
from service.query import NoParameters, QueryDecoder, unwrapped
from service.replies import reply

T = TypeVar("T")

Headers = Mapping[bytes, bytes]

# The versions that If-Match names; None without the header, or with `*`.
IfMatch = frozenset[int] | None

# One element of a list, which may be empty (RFC 9110, section 5.6.1).
ENTITY_TAG = re.compile(r'\s*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*)?(?:,|$)')
# As it is written in an answer, and so far below the largest int64 that no item gets there.
VERSION_TAG = re.compile("([1-9][0-9]{0,17})-(?:" + "|".join(media.name for media in MEDIA) + ")")
SAFE = {"GET", "HEAD"}


class Reply(NamedTuple, Generic[T]):
    """A value, the headers to send with it, and a place to keep its encoding, if others will be answered with it."""

    value: T
    headers: Sequence[Header] = ()
    encoded: dict[Any, Any] | None = None


class Operation:
    """One method of one path."""

    def __init__(
        self,
        handler: Callable[..., Awaitable[Any]],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[Kind] = (),
    ) -> None:
        self.handler = handler
        self.status = status
        self.headers = headers or {}
        self.problems = problems  # that the signature does not tell of
        hints = get_type_hints(handler, include_extras=True)
        self.result = hints.pop("return")
        self.query = hints.get("query")
        self.body = hints.get("body")
        self.conditional = "if_match" in hints
        self.path = {name: kind for name, kind in hints.items() if name not in RESERVED}
        self._parts = {name: part_reader(kind) for name, kind in self.path.items()}
        self._decoders = {media: media.decoder(self.body) for media in MEDIA} if self.body else {}
        self._parameters = QueryDecoder(self.query or NoParameters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decode, call, encode."""
        context: Context = scope["state"]["context"]
        headers = combined(scope["headers"])
        media = acceptable(headers.get(b"accept"))
        arguments: dict[str, Any] = {"context": context}
        for name, read in self._parts.items():
            arguments[name] = path_part(scope["path_params"][name], read)
        if self.query is not None:
            arguments["query"] = self._parameters.decode(scope["query_string"])
        elif scope["query_string"]:
            self._parameters.decode(scope["query_string"])  # there are none, so this refuses
        if scope["method"] not in SAFE:
            self._refuse_conditions(headers)
        if self.conditional:
            arguments["if_match"] = expected_versions(headers.get(b"if-match"))
        if self.body is not None:
            written_in = supported(headers.get(b"content-type"))
            body = await read_body(headers, receive, context.settings.body_bytes_max)
            arguments["body"] = self._decode(written_in, body)
        result = await self.handler(**arguments)
        status, sent, content = self._encode(result, media, headers)
        await reply(scope, send, status, sent, content)

    def _refuse_conditions(self, headers: Headers) -> None:
        """Refuse what is not evaluated here: a write under a condition must not happen without it. Raises a 400."""
        if b"if-none-match" in headers or (b"if-match" in headers and not self.conditional):
            raise ProblemError(INVALID_HEADER, "If-Match is for writing one item, If-None-Match for reading.")

    def _decode(self, media: Media, body: bytes) -> Any:
        try:
            return self._decoders[media].decode(body)
        except msgspec.ValidationError as error:
            found = self._faults(media, body, error)
            raise ProblemError(INVALID_BODY, "It does not have the form that is expected.", faults=found) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = "It is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProblemError(MALFORMED_BODY, f"{detail}.") from None

    def _faults(self, media: Media, body: bytes, error: msgspec.ValidationError) -> list[Fault]:
        try:
            plain = media.decoder(Any).decode(body)
            return faults.find(self.body, plain, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [faults.raised(error)]

    def _encode(self, result: Any, media: Media, headers: Headers) -> tuple[int, Sequence[Header], bytes]:
        """Write a result down, or say that the caller has it already."""
        if result is None:
            return HTTPStatus.NO_CONTENT, (), b""
        value, more, shared = result if type(result) is Reply else (result, (), None)
        if shared is not None:
            if media not in shared:
                shared[media] = (*media.headers, *more), media.encode(value)
            return self.status, *shared[media]
        sent = [*media.headers, *more]
        version = getattr(value, "version", None)
        if version is not None:
            tag = media.tag % version
            sent.append((b"etag", tag))
            if b"if-none-match" in headers and names(headers[b"if-none-match"], tag):
                return HTTPStatus.NOT_MODIFIED, sent, b""
        return self.status, sent, media.encode(value)


RESERVED = frozenset({"context", "query", "body", "if_match"})


class Resource:
    """One path: an operation for each of its methods, as the ASGI application that a Route leads to."""

    def __init__(self, **operations: Operation) -> None:
        self.operations = operations
        allowed = sorted({*operations, *({"HEAD"} if "GET" in operations else ())})
        self._allow = ", ".join(allowed)
        self._methods = {method: operations["GET" if method == "HEAD" else method] for method in allowed}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Choose the operation. Raises a 405 with every method there is."""
        operation = self._methods.get(scope["method"])
        if operation is None:
            raise ProblemError(
                METHOD_NOT_ALLOWED, f"Allowed are {self._allow}.", headers=[(b"allow", self._allow.encode())]
            )
        return operation(scope, receive, send)


def combined(pairs: Sequence[Header]) -> Headers:
    """Give headers by name; those that were sent more than once as one list (RFC 9110, section 5.3)."""
    headers = dict(pairs)
    if len(headers) < len(pairs):
        headers = {name: b", ".join(value for other, value in pairs if other == name) for name in headers}
    return headers


def part_reader(kind: Any) -> Callable[[str], Any]:
    """Choose how a part of a path is read: a whole number by the decoder that is there already, ten times as fast."""
    if isinstance(unwrapped(msgspec.inspect.type_info(kind)), msgspec.inspect.IntType):
        return msgspec.json.Decoder(kind).decode
    return partial(msgspec.convert, type=kind, strict=False)


def path_part(text: str, read: Callable[[str], Any]) -> Any:
    """Read a part of the path. Raises a 404: what cannot be read is nowhere."""
    with suppress(ValueError):  # msgspec's errors, and text that is no UTF-8
        value = read(text)
        if str(value) == text:  # one address for one thing: not 007, not 7.0
            return value
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")


def expected_versions(header: bytes | None) -> IfMatch:
    """Read If-Match by strong comparison (RFC 9110, section 13.1.1): a weak or foreign tag is no version of ours.

    Raises a 400.
    """
    if header is None or header.strip() == b"*":
        return None
    found = [VERSION_TAG.fullmatch(opaque) for weak, opaque in entity_tags(header, "If-Match") if not weak]
    return frozenset(int(match[1]) for match in found if match)


def names(header: bytes, tag: bytes) -> bool:
    """Whether If-None-Match names a tag, by weak comparison. Raises a 400."""
    if header.strip() == b"*":
        return True
    wanted = tag.decode()[1:-1]
    return any(opaque == wanted for _, opaque in entity_tags(header, "If-None-Match"))


def entity_tags(header: bytes, name: str) -> list[tuple[str, str]]:
    """Split a list of entity tags into their weak marks and opaque parts. Raises a 400."""
    text, position, tags = header.decode("latin-1"), 0, []
    while position < len(text):
        match = ENTITY_TAG.match(text, position)
        if match is None:
            raise ProblemError(INVALID_HEADER, f'{name} must be * or a list of tags like "1-json".')
        if match[2] is not None:
            tags.append((match[1], match[2]))
        position = match.end()
    return tags


async def read_body(headers: Headers, receive: Receive, bytes_max: int) -> bytes:
    """Read a body to its end, or to the length that was announced. Raises a 413 as soon as it is too large."""
    announced = headers.get(b"content-length", b"")
    length = int(announced) if announced.isdigit() and len(announced) < 20 else None  # noqa: PLR2004 - fits 64 bits
    chunks, size = [], 0
    while True:
        if max(size, length or 0) > bytes_max:
            raise ProblemError(BODY_TOO_LARGE, f"It may have {bytes_max} bytes at most.")
        if length is not None and size >= length:
            break
        message = await receive()
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if not message.get("more_body", False):
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
