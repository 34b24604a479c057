"""A handler's signature is its contract: from it an operation knows what to decode, and the document what to say.

What a handler may ask for, by name: `context`; `body` and `query`, decoded into their annotation; `if_match`, the
versions that the caller expects; any other name is a part of the path. It returns a value to encode, a Reply, or None
for a 204.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec
from starlette.types import Receive, Scope, Send

from db.transactions.idempotency import IdempotencyKey, ReplayedResponse
from service.context import Context
from service.http import validation
from service.http.headers import Headers, combined, expected_versions, names, time_limit
from service.http.idempotency import digests, kept, replayed
from service.http.media_types import MEDIA_TYPES, MediaType, for_content_type, negotiate
from service.http.problems import (
    INVALID_BODY,
    INVALID_HEADER,
    MALFORMED_BODY,
    METHOD_NOT_ALLOWED,
    NO_CACHE,
    NO_SUCH_PATH,
    FieldError,
    Header,
    ProblemError,
    ProblemType,
    render,
)
from service.http.query import NoParameters, QueryDecoder, unwrapped
from service.http.response import reply

T = TypeVar("T")

Answer = tuple[int, Sequence[Header], bytes]

SAFE = {"GET", "HEAD"}


class Reply(NamedTuple, Generic[T]):
    """A value, the headers to send with it, and a place to keep its encoding, if others will be answered with it."""

    value: T
    headers: Sequence[Header] = ()
    encoded: dict[Any, Any] | None = None


class Operation:
    """One method of one path."""

    def __init__(  # noqa: PLR0913 - what the signature does not tell of
        self,
        handler: Callable[..., Awaitable[Any]],
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[ProblemType] = (),
        location: bytes = b"",
        cache_control: Header = NO_CACHE,
    ) -> None:
        self.handler = handler
        self.status = status
        self._location = location  # with a place for the id
        self._cache_control = cache_control
        self._response_headers = {media: (*media.headers, cache_control) for media in MEDIA_TYPES}
        self.headers = headers or {}
        self.problems = problems  # that the signature does not tell of
        hints = get_type_hints(handler, include_extras=True)
        self.result = hints.pop("return")
        self.query = hints.get("query")
        self.body = hints.get("body")
        self.conditional = "if_match" in hints
        self.path = {name: kind for name, kind in hints.items() if name not in RESERVED}
        self._parts = {name: part_reader(kind) for name, kind in self.path.items()}
        self._decoders = {media: media.decoder(self.body) for media in MEDIA_TYPES} if self.body else {}
        self._parameters = QueryDecoder(self.query or NoParameters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decode, call, encode."""
        headers = combined(scope["headers"])
        context: Context = scope["state"]["context"]
        if b"x-request-timeout" in headers:
            limit_s = time_limit(headers[b"x-request-timeout"])
            context = context.until(asyncio.get_running_loop().time() + limit_s)
        media = negotiate(headers.get(b"accept"))
        arguments: dict[str, Any] = {"context": context}
        body = b""
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
            written_in = for_content_type(headers.get(b"content-type"))
            body = await context.bodies.read(headers, receive)
            arguments["body"] = self._decode(written_in, body)
        if b"idempotency-key" in headers and scope["method"] not in SAFE:
            status, sent, content = await self._once(scope, headers, body, media, arguments)
        else:
            status, sent, content = self._encode(await self.handler(**arguments), media, headers)
        await reply(scope, send, status, sent, content)

    async def _once(
        self, scope: Scope, headers: Headers, body: bytes, media: MediaType, arguments: dict[str, Any]
    ) -> Answer:
        """Call, unless it was done before under the same key; a handler's one write is answered with its result."""

        def answer(result: Any) -> bytes:
            if isinstance(result, Exception):
                return kept(render(result, scope["request_id"].decode()))
            return kept(self._encode(result, media, headers))

        claim = IdempotencyKey(*digests(scope, headers, body, media), answer)
        context: Context = arguments["context"]
        try:
            result = await self.handler(**{**arguments, "context": context.keyed(claim)})
        except ReplayedResponse as replay:
            return replayed(replay.answer, scope["request_id"])
        return self._encode(result, media, headers)

    def _refuse_conditions(self, headers: Headers) -> None:
        """Refuse what is not evaluated here: a write under a condition must not happen without it. Raises a 400."""
        if b"if-none-match" in headers or (b"if-match" in headers and not self.conditional):
            raise ProblemError(INVALID_HEADER, "If-Match is for writing one item, If-None-Match for reading.")

    def _decode(self, media: MediaType, body: bytes) -> Any:
        try:
            return self._decoders[media].decode(body)
        except msgspec.ValidationError as error:
            found = self._faults(media, body, error)
            raise ProblemError(INVALID_BODY, "It does not have the form that is expected.", faults=found) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = "It is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProblemError(MALFORMED_BODY, f"{detail}.") from None

    def _faults(self, media: MediaType, body: bytes, error: msgspec.ValidationError) -> list[FieldError]:
        try:
            plain = media.decoder(Any).decode(body)
            return validation.find(self.body, plain, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [validation.raised(error)]

    def _encode(self, result: Any, media: MediaType, headers: Headers) -> Answer:
        """Write a result down, or say that the caller has it already."""
        if result is None:
            return HTTPStatus.NO_CONTENT, (self._cache_control,), b""
        value, more, shared = result if type(result) is Reply else (result, (), None)
        if shared is not None:
            if media not in shared:
                shared[media] = (*self._response_headers[media], *more), media.encode(value)
            return self.status, *shared[media]
        sent = [*self._response_headers[media], *more]
        version = getattr(value, "version", None)
        if version is not None:
            tag = media.tag % version
            sent.append((b"etag", tag))
            if self._location:
                sent.append((b"location", self._location % value.id))
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
