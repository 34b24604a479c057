"""A handler's signature is its contract: operations decode and encode by it, and the OpenAPI document is made from it.

A handler's parameters, by name: `context`; `body` and `query`, decoded into their annotation; `if_match`, the versions
that the client expects; any other name is a path parameter. It returns a value to encode, a Result, or None for a 204.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import msgspec
from starlette.types import Receive, Scope, Send

from db.transactions.idempotency import IdempotencyKey, ReplayedResponse
from service.context import Context
from service.http import validation
from service.http.headers import Headers, combined, expected_versions, has_tag, time_limit
from service.http.idempotency import decode_replay, digests, encode_response
from service.http.media_types import MEDIA_TYPES, MediaType, for_content_type, negotiate
from service.http.problems import (
    INVALID_BODY,
    INVALID_HEADER,
    MALFORMED_BODY,
    METHOD_NOT_ALLOWED,
    NO_SUCH_PATH,
    FieldError,
    ProblemError,
    ProblemType,
    render,
)
from service.http.query import NoParameters, QueryDecoder, unwrapped
from service.http.response import NO_CACHE, Header, Response, send_response

T = TypeVar("T")

SAFE = {"GET", "HEAD"}


class Result(NamedTuple, Generic[T]):
    """A handler's value, with headers to send, and a cache of its encodings if it is the result of other requests too.

    The cache's keys are media types, its values the headers and the body.
    """

    value: T
    headers: Sequence[Header] = ()
    encoded: dict[Any, Any] | None = None


class Operation:
    """One method of one path: the handler, and what its signature does not say."""

    def __init__(  # noqa: PLR0913 - what the signature does not say
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
        self._location = location  # a pattern with %d for the id
        self._cache_control = cache_control
        self._response_headers = {media_type: (*media_type.headers, cache_control) for media_type in MEDIA_TYPES}
        self.headers = headers or {}
        self.problems = problems  # that the signature does not show
        hints = get_type_hints(handler, include_extras=True)
        self.result = hints.pop("return")
        self.query = hints.get("query")
        self.body = hints.get("body")
        self.conditional = "if_match" in hints
        self.path = {name: kind for name, kind in hints.items() if name not in RESERVED}
        self._path_readers = {name: path_reader(kind) for name, kind in self.path.items()}
        self._decoders = {media_type: media_type.decoder(self.body) for media_type in MEDIA_TYPES} if self.body else {}
        self._query_decoder = QueryDecoder(self.query or NoParameters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decode the request, call the handler, encode its result and send it. Raises ProblemError."""
        headers = combined(scope["headers"])
        context: Context = scope["state"]["context"]
        if b"x-request-timeout" in headers:
            limit_s = time_limit(headers[b"x-request-timeout"])
            context = context.until(asyncio.get_running_loop().time() + limit_s)
        media_type = negotiate(headers.get(b"accept"))
        arguments: dict[str, Any] = {"context": context}
        body = b""
        for name, read in self._path_readers.items():
            arguments[name] = path_parameter(scope["path_params"][name], read)
        if self.query is not None:
            arguments["query"] = self._query_decoder.decode(scope["query_string"])
        elif scope["query_string"]:
            self._query_decoder.decode(scope["query_string"])  # which refuses any parameter
        if scope["method"] not in SAFE:
            self._check_conditions(headers)
        if self.conditional:
            arguments["if_match"] = expected_versions(headers.get(b"if-match"))
        if self.body is not None:
            body_media_type = for_content_type(headers.get(b"content-type"))
            body = await context.bodies.read(headers, receive)
            arguments["body"] = self._decode(body_media_type, body)
        if b"idempotency-key" in headers and scope["method"] not in SAFE:
            response = await self._run_once(scope, headers, body, media_type, arguments)
        else:
            response = self._encode(await self.handler(**arguments), media_type, headers)
        await send_response(scope, send, response)

    async def _run_once(
        self, scope: Scope, headers: Headers, body: bytes, media_type: MediaType, arguments: dict[str, Any]
    ) -> Response:
        """Return the handler's response, or the stored one of the first request with the same Idempotency-Key.

        The handler makes one write, in whose transaction the response is stored.
        """

        def stored_response(result: Any) -> bytes:
            if isinstance(result, Exception):
                return encode_response(render(result, scope["request_id"].decode()))
            return encode_response(self._encode(result, media_type, headers))

        key = IdempotencyKey(*digests(scope, headers, body, media_type), stored_response)
        context: Context = arguments["context"]
        try:
            result = await self.handler(**{**arguments, "context": context.keyed(key)})
        except ReplayedResponse as replay:
            return decode_replay(replay.response, scope["request_id"])
        return self._encode(result, media_type, headers)

    def _check_conditions(self, headers: Headers) -> None:
        """Raise a 400 for a condition that this method does not evaluate: a write must not happen without it."""
        if b"if-none-match" in headers or (b"if-match" in headers and not self.conditional):
            raise ProblemError(INVALID_HEADER, "If-Match is for writing one item, If-None-Match for reading.")

    def _decode(self, media_type: MediaType, body: bytes) -> Any:
        try:
            return self._decoders[media_type].decode(body)
        except msgspec.ValidationError as error:
            errors = self._field_errors(media_type, body, error)
            raise ProblemError(INVALID_BODY, "It does not have the form that is expected.", errors=errors) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = "It is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProblemError(MALFORMED_BODY, f"{detail}.") from None

    def _field_errors(self, media_type: MediaType, body: bytes, error: msgspec.ValidationError) -> list[FieldError]:
        try:
            plain = media_type.decoder(Any).decode(body)
            return validation.find_errors(self.body, plain, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [validation.from_exception(error)]

    def _encode(self, result: Any, media_type: MediaType, headers: Headers) -> Response:
        """Return the response with a handler's result, or a 304 if If-None-Match has its ETag."""
        if result is None:
            return Response(HTTPStatus.NO_CONTENT, (self._cache_control,))
        value, more_headers, encoded = result if type(result) is Result else (result, (), None)
        if encoded is not None:
            if media_type not in encoded:
                response_headers = [*self._response_headers[media_type], *more_headers]
                encoded[media_type] = Response(self.status, response_headers, media_type.encode(value))
            response: Response = encoded[media_type]
            return response
        response_headers = [*self._response_headers[media_type], *more_headers]
        version = getattr(value, "version", None)
        if version is not None:
            tag = media_type.tag % version
            response_headers.append((b"etag", tag))
            if self._location:
                response_headers.append((b"location", self._location % value.id))
            if b"if-none-match" in headers and has_tag(headers[b"if-none-match"], tag):
                return Response(HTTPStatus.NOT_MODIFIED, response_headers)
        return Response(self.status, response_headers, media_type.encode(value))


RESERVED = frozenset({"context", "query", "body", "if_match"})


class Resource:
    """One path: the ASGI application of a Route, with an operation for each method."""

    def __init__(self, **operations: Operation) -> None:
        self.operations = operations
        allowed = sorted({*operations, *({"HEAD"} if "GET" in operations else ())})
        self._allow = ", ".join(allowed)
        self._methods = {method: operations["GET" if method == "HEAD" else method] for method in allowed}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the operation of the request's method. Raises a 405 that lists the methods there are."""
        operation = self._methods.get(scope["method"])
        if operation is None:
            raise ProblemError(
                METHOD_NOT_ALLOWED, f"Allowed are {self._allow}.", headers=[(b"allow", self._allow.encode())]
            )
        return operation(scope, receive, send)


def path_reader(kind: Any) -> Callable[[str], Any]:
    """Return the reader of a path parameter: for an integer a decoder that is made once, ten times as fast."""
    if isinstance(unwrapped(msgspec.inspect.type_info(kind)), msgspec.inspect.IntType):
        return msgspec.json.Decoder(kind).decode
    return partial(msgspec.convert, type=kind, strict=False)


def path_parameter(text: str, read: Callable[[str], Any]) -> Any:
    """Return the value of a path parameter. Raises a 404: there is nothing at a path that cannot be read."""
    try:
        value = read(text)
        if str(value) == text:  # each item has one path: not 007, not 7.0
            return value
    except ValueError:  # msgspec's errors, and text that is no UTF-8
        pass
    raise ProblemError(NO_SUCH_PATH, "There is nothing at this path.")
