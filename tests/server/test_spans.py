"""Spans as they are encoded: the same messages as the SDK makes of the same spans."""

from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace import Status as SpanStatus

from service.observability.request_batches import BatchRun
from service.observability.spans import EndedBatch, EndedRequest
from service.observability.trace_context import SAMPLED, TraceContext

CLIENT = TraceContext(f"{2**127 + 1:032x}", f"{2**63 + 1:016x}", SAMPLED, (("congo", "t61rcWkgMzE"), ("rojo", "00f0")))
REQUEST, OTHER = CLIENT.within(f"{17:016x}"), TraceContext(f"{3:032x}", f"{4:016x}", SAMPLED)


def context_of(context: TraceContext, *, is_remote: bool = False) -> SpanContext:
    """Return a context as the SDK has it."""
    ids, state = (int(context.trace_id, 16), int(context.span_id, 16)), TraceState(list(context.state))
    return SpanContext(*ids, is_remote, TraceFlags(context.flags), state)


def by_sdk(name: str, kind: SpanKind, context: SpanContext, parent: SpanContext | None, **fields: Any) -> Span:
    """Return a span as the SDK encodes it."""
    span = ReadableSpan(name, context, parent, Resource.get_empty(), kind=kind, **fields)
    return comparable(encode_spans([span]).resource_spans[0].scope_spans[0].spans[0])


def comparable(span: Span) -> Span:
    """Return a span without what makes no difference: the order of attributes, and a status that says nothing."""
    attributes = sorted(span.attributes, key=lambda attribute: attribute.key)
    del span.attributes[:]
    span.attributes.extend(attributes)
    if span.status == Status():
        span.ClearField("status")
    return span


def spans_of(ended: EndedRequest | EndedBatch) -> list[Span]:
    """Return the spans of what has ended."""
    spans = [comparable(Span.FromString(message)) for message in ended.spans()]
    assert len(spans) == ended.span_count
    return spans


def request(**fields: Any) -> EndedRequest:
    """Return a request that has ended."""
    usual: dict[str, Any] = {
        "context": REQUEST,
        "parent": None,
        "started": 10**18,
        "ended": 10**18 + 1,
        "method": "GET",
        "path": "/items/1",
        "scheme": "https",
        "http_version": "2",
        "server": ("::1", 8443),
        "user_agent": b"caf\xe9/1",
        "request_id": b"one",
        "route": "/items/{id}",
        "status": 200,
        "error": "",
    }
    return EndedRequest(**(usual | fields))


ATTRIBUTES = {
    "http.request.method": "GET",
    "url.path": "/items/1",
    "url.scheme": "https",
    "network.protocol.version": "2",
    "server.address": "::1",
    "server.port": 8443,
    "user_agent.original": "café/1",
    "http.route": "/items/{id}",
    "http.response.status_code": 200,
    "itemsvc.request.id": "one",
}
ENDED: dict[str, Any] = {"attributes": ATTRIBUTES, "start_time": 10**18, "end_time": 10**18 + 1}


def test_a_request_of_a_clients_trace_and_one_of_none() -> None:
    for parent in (CLIENT, None):
        remote = context_of(parent, is_remote=True) if parent is not None else None
        arguments = "GET /items/{id}", SpanKind.SERVER, context_of(REQUEST), remote
        assert spans_of(request(parent=parent)) == [by_sdk(*arguments, **ENDED)]


def test_a_request_that_failed_has_the_status_of_an_error() -> None:
    [span] = spans_of(request(status=503, error="503"))
    attributes = {**ATTRIBUTES, "http.response.status_code": 503, "error.type": "503"}
    fields = {**ENDED, "attributes": attributes, "status": SpanStatus(StatusCode.ERROR)}
    assert span == by_sdk("GET /items/{id}", SpanKind.SERVER, context_of(REQUEST), None, **fields)


def test_the_statement_and_the_waits_of_a_batch() -> None:
    run = BatchRun("items get", 3, 2.0, 3.0, "conflict")
    statement, *waits = spans_of(EndedBatch(run, [(1.5, OTHER), (1.0, REQUEST), (1.25, REQUEST)], 10**18, "sqlite"))
    own = context_of(REQUEST.within(statement.span_id.hex()))
    assert statement == by_sdk(
        "get items",
        SpanKind.CLIENT,
        own,
        context_of(REQUEST),
        attributes={
            "db.system.name": "sqlite",
            "db.collection.name": "items",
            "db.operation.name": "get",
            "db.operation.batch.size": 3,
            "error.type": "conflict",
        },
        links=[Link(context_of(OTHER)), Link(context_of(REQUEST))],
        start_time=10**18 + 2 * 10**9,
        end_time=10**18 + 3 * 10**9,
        status=SpanStatus(StatusCode.ERROR),
    )
    for wait, (milliseconds, parent) in zip(waits, [(1500, OTHER), (1000, REQUEST), (1250, REQUEST)], strict=True):
        assert wait == by_sdk(
            "wait items get",
            SpanKind.INTERNAL,
            context_of(parent.within(wait.span_id.hex())),
            context_of(parent),
            attributes={"itemsvc.batcher": "items get"},
            links=[Link(own)],
            start_time=10**18 + milliseconds * 10**6,
            end_time=10**18 + 2 * 10**9,
        )
    assert len({span.span_id for span in (statement, *waits)}) == 4
