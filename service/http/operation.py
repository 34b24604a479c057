"""A handler's signature is its contract: operations decode and encode by it, and the OpenAPI document is made from it.

A handler's parameters, by name: `context`; `call`, for the database; `body` and `query`, decoded into their annotation;
`if_match`, the versions that the client expects; any other name is a parameter of the path, a number. It returns
a value to encode, a Result, or None for a 204. A write returns the result of its one verb of the store as it is: under
an idempotency key, that result is encoded as the response of every repeat.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from hashlib import blake2b
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
from starlette.types import Receive, Scope, Send

from db.errors import Conflict, InvalidValue, NotFound, NotOwner, VersionMismatch
from db.tables.call import Call, Origin
from db.transactions.idempotency import IdempotencyKey, ReplayedResponse
from service.context import Context
from service.http.admission import Admission, call_by_password
from service.http.handler import Handler
from service.http.headers import Headers, combined, expected_versions, has_tag, time_limit
from service.http.idempotency import (
    decode_replay,
    encode_response,
    fingerprint,
    key_scope,
    secret_fields,
    without_secrets,
)
from service.http.media_types import ANY_BODY, JSON, MEDIA_TYPES, BodyTypes, MediaType, for_content_type, negotiate
from service.http.path import path_parameter
from service.http.problems import INVALID_HEADER, METHOD_NOT_ALLOWED, ProblemError, ProblemType, Refusal, render
from service.http.query import NoParameters, QueryDecoder
from service.http.response import NO_CACHE, Header, Response, Result, send_response
from service.http.validation import BodyDecoder, union_members

SAFE = {"GET", "HEAD"}
RESERVED = frozenset({"context", "call", "query", "body", "if_match"})
CALL = Call()  # of requests without a deadline and without an idempotency key
REFUSALS = (NotFound, NotOwner, VersionMismatch, Conflict, InvalidValue, Refusal)
BODY_DIGEST_BYTES = 6
Run = Callable[..., Awaitable[Any]]


class Operation:
    """One method of one path: the handler, and what its signature does not say.

    With authentication, `scope` is what its caller needs; where the path's parameter `own` is the caller's id, the
    scope for one's own is enough, and with `own_rows` it is for writing rows that the caller owns. Without a scope
    everybody may call it, or `by_password` those who send a name and a password. `for_owner` is the handler, and the
    type of its body, for a caller who writes its own rows alone. If `is_audited`, the call says whose request it is.
    """

    def __init__(  # noqa: PLR0913 - what a signature does not say
        self,
        handler: "Run | Handler",
        *,
        scope: str | None = None,
        own: str | None = None,
        own_rows: bool = False,
        by_password: bool = False,
        for_owner: Handler | None = None,
        is_audited: bool = False,
        status: int = 200,
        problems: Sequence[ProblemType] = (),
        location: bytes = b"",
        cache_control: Header = NO_CACHE,
        body_types: BodyTypes = ANY_BODY,
    ) -> None:
        self.described = described = handler if isinstance(handler, Handler) else Handler.of(handler)
        self.handler = described.run
        self.scope, self.has_own = scope, own is not None or own_rows
        self.by_password = by_password
        self._admission = Admission(scope, own, own_rows=own_rows, is_owned=for_owner is not None)
        self.for_owner = for_owner
        self.is_audited = is_audited
        self.status = status
        self.problems = problems
        self.location = location  # of what is created: a pattern with %d for the id
        self.body_types = body_types
        self._no_content = Response(204, (cache_control,))
        self._response_headers: dict[MediaType, list[Header]] = {
            media_type: [(b"content-type", media_type.content_type.encode()), (b"vary", b"Accept"), cache_control]
            for media_type in MEDIA_TYPES
        }
        hints = described.hints.copy()
        result = hints.pop("return")
        self.result = get_args(result)[0] if get_origin(result) is Result else result
        self.has_content = self.result is not NoneType
        # Of each form that the result may have, whether it is sent with an ETag.
        self.tagged = ["version" in getattr(form, "__struct_fields__", ()) for form in union_members(self.result)]
        self.query = hints.get("query")
        self.body = hints.get("body")
        self.takes_call = "call" in hints
        self.conditional = "if_match" in hints
        self.path = {name: kind for name, kind in hints.items() if name not in RESERVED}
        self._path_readers = {name: msgspec.json.Decoder(kind).decode for name, kind in self.path.items()}
        self._query_decoder = QueryDecoder(self.query or NoParameters)
        self.body_decoder = BodyDecoder(self.body)
        self._owner_body_decoder = BodyDecoder(for_owner.hints.get("body")) if for_owner else self.body_decoder
        self._secrets = secret_fields(self.body)

    def of_table(self, problems: Sequence[ProblemType], *, is_audited: bool) -> "Operation":
        """Return the same operation, which may respond with these problems, too, for a table that may be audited."""
        operation = copy(self)
        operation.problems, operation.is_audited = [*problems, *self.problems], is_audited
        return operation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit the caller before all else, decode the request, call the handler, and send its result. Raises."""
        headers, context = combined(scope["headers"]), scope["state"]["context"]
        authenticator = None if self.scope is None else context.authenticator
        caller, call = None, CALL
        if authenticator:
            anew = self.is_audited and scope["method"] not in SAFE  # who is shut out must not stay by such a write
            caller = None if anew else self._admission.known(authenticator, headers, scope)
            if caller is None:
                caller, call = await self._admission.admit(context, authenticator, headers, scope, anew=anew)
            else:
                call = self._admission.enter(context, caller, scope)
        elif self.by_password:
            call = await call_by_password(context, headers, scope)
        if b"x-request-timeout" in headers:
            call = call.within(time_limit(headers[b"x-request-timeout"]))
        media_type = negotiate(headers.get(b"accept")) if self.has_content else JSON
        arguments = self._address(context, call, scope)
        run = self.handler
        if scope["method"] not in SAFE:
            self._read_conditions(headers, arguments)
            if self.body is not None:
                body_media_type = for_content_type(headers.get(b"content-type"), self.body_types)
                body = await context.bodies.read(headers, receive)
                if authenticator and caller and authenticator.is_over(caller):  # who may be shut out by now
                    call = await self._admission.readmit(context, authenticator, headers, scope, call)
                    arguments["call"] = call
                decoder = self.body_decoder if call.owner is None else self._owner_body_decoder
                arguments["body"] = decoder.decode(body_media_type, body)
            if self.is_audited or b"idempotency-key" in headers:
                run = self._extend_call(scope, headers, arguments, media_type)
        try:
            response = self.encode(await run(**arguments), media_type, headers)
        except ReplayedResponse as replay:
            response = _replayed(context, replay, scope)
        await send_response(scope, send, response)

    def _address(self, context: Context, call: Call, scope: Scope) -> dict[str, Any]:
        """Return a handler's arguments without those of the body and of conditions. Raise a 404, and a 400."""
        arguments: dict[str, Any] = {"context": context, "call": call} if self.takes_call else {"context": context}
        for name, read in self._path_readers.items():
            arguments[name] = path_parameter(scope["path_params"][name], read)
        if self.query is not None:
            arguments["query"] = self._query_decoder.decode(scope["query_string"])
        elif scope["query_string"]:
            self._query_decoder.decode(scope["query_string"])  # which refuses any parameter
        return arguments

    def _read_conditions(self, headers: Headers, arguments: dict[str, Any]) -> None:
        """Add the versions that a write expects. Raise a 400 for a condition that its method does not evaluate."""
        if b"if-none-match" in headers or (b"if-match" in headers and not self.conditional):
            raise ProblemError(INVALID_HEADER, "If-Match is for writing at one id, If-None-Match for reading.")
        if self.conditional:
            arguments["if_match"] = expected_versions(headers.get(b"if-match"))

    def _extend_call(self, scope: Scope, headers: Headers, arguments: dict[str, Any], media_type: MediaType) -> Run:
        """Add to the call what the audit log is to have, and the idempotency key; return what is to be run."""
        call: Call = arguments["call"]
        if self.is_audited:
            call = call._replace(origin=Origin("api", scope["request_id"].decode()))
        arguments["call"] = call
        if b"idempotency-key" not in headers:
            return self.handler
        key = self._idempotency_key(scope, headers, arguments, media_type, call.caller)
        arguments["call"] = call.within(arguments["context"].settings.request_timeout_ms / 1000)._replace(
            idempotency=key
        )
        return self._run_once

    def _idempotency_key(
        self, scope: Scope, headers: Headers, arguments: Mapping[str, Any], media_type: MediaType, caller: int | None
    ) -> IdempotencyKey:
        """Return the key of a write, with how its result or its refusal is encoded as the response to store."""
        body = without_secrets(self._secrets, arguments.get("body"))
        request = (arguments.get("query"), arguments.get("if_match"), media_type.name, body)

        def encode(result: Any) -> bytes:
            if isinstance(result, Exception):
                return encode_response(render(result, scope["request_id"].decode()))
            return encode_response(self.encode(result, media_type, headers))

        return IdempotencyKey(key_scope(scope, headers[b"idempotency-key"], caller), fingerprint(request), encode)

    async def _run_once(self, context: Context, call: Call, **arguments: Any) -> Any:
        """Return the handler's result, or store the response to its refusal, which changed nothing, and raise that."""
        try:
            return await self.handler(context=context, call=call, **arguments)
        except REFUSALS as refusal:
            assert call.idempotency is not None  # noqa: S101 - narrows the type
            remaining_s = call.deadline - asyncio.get_running_loop().time()
            await context.idempotency.save_refusal(call.idempotency, refusal, remaining_s, call.caller)
            raise

    def encode(self, result: Any, media_type: MediaType, headers: Headers) -> Response:
        """Return the response with a handler's result, or a 304 if If-None-Match has its ETag."""
        if result is None:
            return self._no_content
        value, more_headers, encoded, body_tag = result if type(result) is Result else (result, (), None, False)
        if encoded is not None and media_type in encoded:
            return encoded[media_type]
        body = media_type.encode(value)
        response_headers = [*self._response_headers[media_type], *more_headers]
        response = Response(self.status, response_headers, body)
        if encoded is not None:
            encoded[media_type] = response
        version = getattr(value, "version", None)
        if version is not None:
            digest = f"-{blake2b(body, digest_size=BODY_DIGEST_BYTES).hexdigest()}" if body_tag else ""
            etag = f'"{version}-{media_type.name}{digest}"'
            response_headers.append((b"etag", etag.encode()))
            if self.location:
                response_headers.append((b"location", self.location % value.id))
            if b"if-none-match" in headers and has_tag(headers[b"if-none-match"], etag[1:-1]):
                return Response(304, [header for header in response_headers if header[0] != b"content-type"])
        return response


def _replayed(context: Context, replay: ReplayedResponse, scope: Scope) -> Response:
    """Return the response that was stored for a write that has happened before, and count it."""
    if context.metrics is not None:
        context.metrics.requests.replays.add()
    return decode_replay(replay.response, scope["request_id"])


class Resource:
    """One path: the ASGI application of a Route, with an operation for each method.

    The problems and the document call its resource by the noun, such as "item"; "" is for what is no resource.
    """

    def __init__(self, noun: str, **operations: Operation) -> None:
        self.noun = noun
        # Copies, as each is counted by itself: a HEAD beside its GET, and one that several paths have.
        self.operations = {method: copy(operation) for method, operation in operations.items()}
        self.methods = self.operations | ({"HEAD": copy(operations["GET"])} if "GET" in operations else {})
        self._allow = ", ".join(sorted(self.methods))
        self._allow_headers = [(b"allow", self._allow.encode())]
        if "PATCH" in operations:  # also in the response to OPTIONS, where RFC 5789, section 3.1, would have it
            self._allow_headers.append((b"accept-patch", operations["PATCH"].body_types.offered.encode()))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the operation of the request's method. Raises a 405 that lists the methods there are."""
        scope["operation"] = operation = self.methods.get(scope["method"])
        if operation is None:
            scope["operation"] = self  # by which it is counted
            raise ProblemError(METHOD_NOT_ALLOWED, f"Allowed are {self._allow}.", headers=self._allow_headers)
        return operation(scope, receive, send)
