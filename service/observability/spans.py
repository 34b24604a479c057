"""Spans as messages of OTLP, made of what is noted when a request or a batch has ended.

They are encoded in the thread that exports them, many at a time, and not as the SDK does it: a message within another
is slow to make, and most are the same in each span. So these are encoded once, and the parts of a span are put one
after the other: that is the whole (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.semconv.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)

from service.observability.request_batches import BatchRun
from service.observability.trace_context import TraceContext

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
OTHER = "_OTHER"  # as the semantic conventions have it
SERVER_ERROR = 500
PARTS_KEPT_MAX = 1024
RANDOM_IDS = RandomIdGenerator()
LOCAL = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK  # the parent, or the link, is a span of this process
REMOTE = LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class EndedRequest(NamedTuple):
    """A request that has ended, with what its span says; all times of spans are in nanoseconds."""

    context: TraceContext
    parent: TraceContext | None
    started: int
    ended: int
    method: str
    path: str
    scheme: str
    http_version: str
    server: tuple[str, int | None] | None
    user_agent: bytes
    request_id: bytes
    route: str | None  # its path with the names of its parameters
    status: int  # 0: there was no response
    error: str

    @property
    def span_count(self) -> int:
        """Return how many spans it has."""
        return 1

    def spans(self) -> list[bytes]:
        """Return its span."""
        name = self.method if self.method in METHODS else "HTTP"
        if self.route is not None:
            name += f" {self.route}"
        times = self.started, self.ended
        return [encoded(name, Span.SPAN_KIND_SERVER, self.context, self.parent, times, self._attributes())]

    def _attributes(self) -> list[bytes]:
        """Return the attributes, without the query, which may hold what must not be seen."""
        is_known = self.method in METHODS
        attributes = [
            kept(http_attributes.HTTP_REQUEST_METHOD, self.method if is_known else OTHER),
            attribute(url_attributes.URL_PATH, self.path),
            kept(url_attributes.URL_SCHEME, self.scheme),
            kept(network_attributes.NETWORK_PROTOCOL_VERSION, self.http_version),
        ]
        if not is_known:
            attributes.append(attribute(http_attributes.HTTP_REQUEST_METHOD_ORIGINAL, self.method))
        address, port = self.server or (None, None)
        if address and port:
            attributes += kept(server_attributes.SERVER_ADDRESS, address), kept(server_attributes.SERVER_PORT, port)
        if self.user_agent:
            attributes.append(kept(user_agent_attributes.USER_AGENT_ORIGINAL, self.user_agent.decode("latin-1")))
        if self.route is not None:
            attributes.append(kept(http_attributes.HTTP_ROUTE, self.route))
        if self.status:
            attributes.append(kept(http_attributes.HTTP_RESPONSE_STATUS_CODE, self.status))
        if self.error:
            attributes.append(failed(self.error))
        if self.request_id:
            attributes.append(attribute("itemsvc.request.id", self.request_id.decode()))
        return attributes


class EndedBatch(NamedTuple):
    """A batch that has ended, and since when each request that is traced had waited for it.

    The statement is part of the trace of the request that waited longest, and is linked to all of them; the waits are
    linked to the statement.
    """

    run: BatchRun
    waits: Sequence[tuple[float, TraceContext]]
    offset: int  # of the clock of spans from that of batches
    database: str  # its name in the semantic conventions

    @property
    def span_count(self) -> int:
        """Return how many spans it has."""
        return 1 + len(self.waits)

    def spans(self) -> list[bytes]:
        """Return the span of the statement, and that of each wait."""
        run = self.run
        started, ended = self._time(run.started), self._time(run.ended)
        parent = min(self.waits, key=itemgetter(0))[1]
        statement = parent.within(new_span_id())
        table, _, verb = run.batcher.partition(" ")
        requests = {request.span_id: request for _, request in self.waits}.values()  # one may have waited twice
        parts = [*self._attributes(table, verb), *map(link, requests)]
        spans = [encoded(f"{verb} {table}", Span.SPAN_KIND_CLIENT, statement, parent, (started, ended), parts)]
        name, parts = f"wait {run.batcher}", [kept("itemsvc.batcher", run.batcher), link(statement)]
        for since, request in self.waits:
            wait, times = request.within(new_span_id()), (self._time(since), started)
            spans.append(encoded(name, Span.SPAN_KIND_INTERNAL, wait, request, times, parts))
        return spans

    def _attributes(self, table: str, verb: str) -> list[bytes]:
        """Return the attributes of the statement."""
        attributes = [
            kept(db_attributes.DB_SYSTEM_NAME, self.database),
            kept(db_attributes.DB_COLLECTION_NAME, table),
            kept(db_attributes.DB_OPERATION_NAME, verb),
            kept("db.operation.batch.size", self.run.members),
        ]
        return [*attributes, failed(self.run.error)] if self.run.error else attributes

    def _time(self, seconds: float) -> int:
        """Return a time of time.monotonic() as spans have it."""
        return self.offset + int(seconds * 1e9)


def new_span_id() -> str:
    """Return a random id of a span."""
    return f"{RANDOM_IDS.generate_span_id():016x}"


def new_trace_id() -> str:
    """Return a random id of a trace."""
    return f"{RANDOM_IDS.generate_trace_id():032x}"


def encoded(  # noqa: PLR0913, PLR0917 - what a span is
    name: str,
    kind: Span.SpanKind.ValueType,
    context: TraceContext,
    parent: TraceContext | None,
    times: tuple[int, int],
    parts: Iterable[bytes],
) -> bytes:
    """Return a span; its attributes, links and status are encoded already."""
    span = Span()
    span.start_time_unix_nano, span.end_time_unix_nano = times
    if context.state:
        span.trace_state = context.state_text
    is_remote = parent is not None and kind == Span.SPAN_KIND_SERVER
    ids = (CHILD_IDS if parent is not None else IDS).format(context, parent)
    return b"".join([bytes.fromhex(ids), part(span), head(name, kind, REMOTE if is_remote else LOCAL), *parts])


@lru_cache(PARTS_KEPT_MAX)
def head(name: str, kind: Span.SpanKind.ValueType, flags: int) -> bytes:
    """Return what many spans have in common."""
    return part(Span(name=name, kind=kind, flags=flags))


def link(context: TraceContext) -> bytes:
    """Return the link of a span to another one."""
    return bytes.fromhex(LINK.format(context))


def attribute(key: str, value: str | int) -> bytes:
    """Return an attribute of a span."""
    span = Span()
    pair = span.attributes.add()
    pair.key = key
    if isinstance(value, str):
        pair.value.string_value = value
    else:
        pair.value.int_value = value
    return part(span)


# For what most spans have in common; that of clients is bounded.
kept = lru_cache(PARTS_KEPT_MAX)(attribute)


@lru_cache(PARTS_KEPT_MAX)
def failed(error: str) -> bytes:
    """Return the status of a span that is an error, and the attribute that says which."""
    status = Status(code=Status.STATUS_CODE_ERROR)
    return part(Span(status=status)) + attribute(error_attributes.ERROR_TYPE, error)


def part(span: Span) -> bytes:
    """Return the part of a span of which this has the fields."""
    message: bytes = span.SerializeToString()
    return message


def template(**fields: Any) -> str:
    """Return a part of a span in hexadecimal, with places for ids of two contexts, which have all the same length."""
    text = part(Span(**fields)).hex().replace(TRACE_ID.hex(), "{0.trace_id}")
    return text.replace(SPAN_ID.hex(), "{0.span_id}").replace(PARENT_ID.hex(), "{1.span_id}")


TRACE_ID, SPAN_ID, PARENT_ID = b"\xaa" * 16, b"\xbb" * 8, b"\xcc" * 8  # in the place of ids
IDS = template(trace_id=TRACE_ID, span_id=SPAN_ID)
CHILD_IDS = template(trace_id=TRACE_ID, span_id=SPAN_ID, parent_span_id=PARENT_ID)
LINK = template(links=[Span.Link(trace_id=TRACE_ID, span_id=SPAN_ID, flags=LOCAL)])
