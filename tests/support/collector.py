"""A collector of traces on loopback: it decodes what it is sent by OTLP over HTTP, and may be slow about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

KINDS = {Span.SPAN_KIND_SERVER: "server", Span.SPAN_KIND_CLIENT: "client", Span.SPAN_KIND_INTERNAL: "internal"}


class Received(NamedTuple):
    """A span as it was received; ids are in hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    is_error: bool
    state: str
    started: int
    ended: int
    resource: dict[str, Any]


class Collector:
    """What was received so far; while `gate` is not set, no request for more is answered."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.headers: list[dict[str, str]] = []
        self.gate = Event()
        self.gate.set()
        self.asked = Event()
        self.environ: dict[str, str] = {}

    def receive(self, headers: dict[str, str], body: bytes) -> None:
        """Take the spans of a request."""
        self.headers.append(headers)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = attributes_of(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [received(span, resource) for span in scope.spans]

    def of_kind(self, kind: str) -> list[Received]:
        """Return the spans of a kind."""
        return [span for span in self.spans if span.kind == kind]


def received(span: Span, resource: dict[str, Any]) -> Received:
    """Return a span that was received."""
    return Received(
        name=span.name,
        kind=KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=attributes_of(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        state=span.trace_state,
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        resource=resource,
    )


def attributes_of(attributes: Any) -> dict[str, Any]:
    """Return attributes by their keys."""
    pairs: list[KeyValue] = list(attributes)
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Return a collector, and the variables that lead to it, until the block is left."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            collector.gate.wait()
            if self.path == "/v1/traces":
                collector.receive({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Write nothing: who gave up on a response may be gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        collector.environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        try:
            yield collector
        finally:
            collector.gate.set()
            server.shutdown()
            thread.join()
