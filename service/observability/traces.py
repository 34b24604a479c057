"""OpenTelemetry traces: the span of a request, its waits for batches, and each batch's statement.

Nothing else imports OpenTelemetry, and this module is imported only where traces are on: it takes 7 MiB and 0.2 s.
"""

import threading
from asyncio import get_running_loop, timeout
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from time import monotonic_ns, time_ns
from typing import Any, NamedTuple, Self
from uuid import uuid4

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from service.observability.current_request import TRACE_CONTEXT, Scope
from service.observability.request_batches import BatchRun
from service.observability.span_export import span_export
from service.observability.trace_context import RANDOM, SAMPLED, TraceContext

SPAN = "span"  # in the scope of a request that is traced
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER = "_OTHER"  # as the semantic conventions have it
CHARACTERS_MAX = 256  # of what a client sends
SERVER_ERROR = 500
OK = Status()


class RequestSpan(NamedTuple):
    """The span of a request that is being served."""

    context: SpanContext
    parent: SpanContext | None
    started: int  # in nanoseconds, as all times of spans
    attributes: dict[str, Any]


class HashedResource(Resource):
    """A resource that is not written as JSON for each span that is encoded, only to be looked up (1.45.2)."""

    _hash = cached_property(Resource.__hash__)

    def __hash__(self) -> int:
        """Return the hash, of what does not change."""
        return self._hash


class Traces:
    """Records spans, and exports them from a thread of its own.

    It is entered in the worker, as no thread outlives a fork. A span is made when it has ended: the SDK's own recording
    ones cost ten times as much, and take all links only if they begin with them, and then 128.
    """

    def __init__(self, *, database: str, shutdown_s: float) -> None:
        self._database = database  # its name in the semantic conventions
        self._shutdown_s = shutdown_s
        self._ids = RandomIdGenerator()
        self._scope = InstrumentationScope("items-service")

    async def __aenter__(self) -> Self:
        """Start the thread."""
        ours = {"service.name": "items-service", "service.instance.id": str(uuid4())}
        self._resource = HashedResource(Resource.create(ours).merge(OTELResourceDetector().detect()).attributes)
        self._export = span_export()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Export what is left, for a bounded time: the SDK itself would wait half a minute for a collector."""
        loop = get_running_loop()
        ended = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def shut_down() -> None:
            self._export.shutdown()
            with suppress(RuntimeError):  # it took too long, and the loop is closed
                loop.call_soon_threadsafe(end)

        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        with suppress(TimeoutError):
            async with timeout(self._shutdown_s):
                await ended

    def begin(self, scope: Scope, parent: TraceContext | None) -> None:
        """Start the span of a request."""
        remote = remote_context(parent) if parent is not None else None
        own = self._new_context(remote)
        scope[SPAN] = RequestSpan(own, remote, time_ns(), request_attributes(scope))
        state = parent.state if parent is not None else ()
        scope[TRACE_CONTEXT] = TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags), state)

    def end(self, scope: Scope, route: str | None, error: BaseException | None) -> None:
        """End the span of a request, whose route is the path with its parameters' names."""
        span: RequestSpan = scope[SPAN]
        status, attributes = scope.get("status", 0), span.attributes
        name = scope["method"] if scope["method"] in METHODS else "HTTP"
        if route is not None:
            name, attributes[http_attributes.HTTP_ROUTE] = f"{name} {route}", route
        if status:
            attributes[http_attributes.HTTP_RESPONSE_STATUS_CODE] = status
        if error is not None or status >= SERVER_ERROR:
            attributes[error_attributes.ERROR_TYPE] = type(error).__qualname__ if error else str(status)
        if "request_id" in scope:
            attributes["itemsvc.request.id"] = scope["request_id"].decode()
        self._add(name, SpanKind.SERVER, span.context, span.parent, attributes, (), span.started, time_ns())

    def record(self, run: BatchRun, served: Sequence[tuple[float, Scope]]) -> None:
        """Record a batch's statement, linked to every request that is traced, and the wait of each of them.

        The statement is part of the trace of the request that waited longest; the other waits are linked to it.
        """
        waits = [(since, scope[SPAN].context) for since, scope in served if SPAN in scope]
        if not waits:
            return
        offset_ns = time_ns() - monotonic_ns()  # of the clock of spans from that of batches
        started, ended = (offset_ns + int(one * 1e9) for one in (run.started, run.ended))
        table, _, verb = run.batcher.partition(" ")
        attributes: dict[str, Any] = {
            db_attributes.DB_SYSTEM_NAME: self._database,
            db_attributes.DB_COLLECTION_NAME: table,
            db_attributes.DB_OPERATION_NAME: verb,
            "db.operation.batch.size": run.members,
        }
        if run.error:
            attributes[error_attributes.ERROR_TYPE] = run.error
        parent = min(waits, key=itemgetter(0))[1]
        context = self._new_context(parent)
        links = [Link(request) for request in {id(request): request for _, request in waits}.values()]
        self._add(f"{verb} {table}", SpanKind.CLIENT, context, parent, attributes, links, started, ended)
        name, attributes, links = f"wait {run.batcher}", {"itemsvc.batcher": run.batcher}, [Link(context)]
        for since, request in waits:
            queued, wait = offset_ns + int(since * 1e9), self._new_context(request)
            self._add(name, SpanKind.INTERNAL, wait, request, attributes, links, queued, started)

    def _new_context(self, parent: SpanContext | None) -> SpanContext:
        """Return the context of a new span, which is recorded."""
        span_id = self._ids.generate_span_id()
        if parent is None:
            return SpanContext(self._ids.generate_trace_id(), span_id, False, TraceFlags(SAMPLED | RANDOM))  # noqa: FBT003
        flags = TraceFlags(parent.trace_flags | SAMPLED)
        return SpanContext(parent.trace_id, span_id, False, flags, parent.trace_state)  # noqa: FBT003

    def _add(  # noqa: PLR0913, PLR0917 - what a span is
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
        links: Sequence[Link],
        started: int,
        ended: int,
    ) -> None:
        """Make a span that has ended, and queue it; one with an error's type is an error."""
        status = Status(StatusCode.ERROR) if error_attributes.ERROR_TYPE in attributes else OK
        span = ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            links=links,
            kind=kind,
            status=status,
            start_time=started,
            end_time=ended,
            instrumentation_scope=self._scope,
        )
        self._export.on_end(span)


def request_attributes(scope: Scope) -> dict[str, Any]:
    """Return the attributes of a request, without its query, which may hold what must not be seen."""
    method = scope["method"]
    attributes: dict[str, Any] = {
        http_attributes.HTTP_REQUEST_METHOD: method if method in METHODS else OTHER,
        url_attributes.URL_PATH: scope["path"][:CHARACTERS_MAX],
        url_attributes.URL_SCHEME: scope.get("scheme", "http"),
        network_attributes.NETWORK_PROTOCOL_VERSION: scope.get("http_version", "1.1"),
    }
    if method not in METHODS:
        attributes[http_attributes.HTTP_REQUEST_METHOD_ORIGINAL] = method[:CHARACTERS_MAX]
    address, port = scope.get("server") or (None, None)
    if address and port:
        attributes |= {server_attributes.SERVER_ADDRESS: address, server_attributes.SERVER_PORT: port}
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
    if agent:
        attributes[user_agent_attributes.USER_AGENT_ORIGINAL] = agent[:CHARACTERS_MAX].decode("latin-1")
    return attributes


def remote_context(parent: TraceContext) -> SpanContext:
    """Return the context of a span that is elsewhere."""
    trace_id, span_id = int(parent.trace_id, 16), int(parent.span_id, 16)
    return SpanContext(trace_id, span_id, True, TraceFlags(parent.flags), TraceState(list(parent.state)))  # noqa: FBT003
