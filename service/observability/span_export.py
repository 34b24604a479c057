"""The way of spans to the collector: a bounded queue, and a thread that sends; what is lost is counted, and logged.

A collector that is down, or slow, costs spans and no requests.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from service.observability.counted import CountedWarning

log = logging.getLogger(__name__)

QUEUED_SPANS_MAX = 4096
EXPORTED_SPANS_MAX = 512  # in one request
EXPORT_TIMEOUT_S = 2.0
LOST, COUNTER = "spans lost", "lost"
QUEUE_FULL = f"{QUEUED_SPANS_MAX} spans wait for the collector"
# Where the exporter logs why it failed.
EXPORTER_LOG = logging.getLogger(OTLPSpanExporter.__module__)


class Ended(Protocol):
    """What has ended, and has spans."""

    @property
    def span_count(self) -> int:
        """Return how many."""

    def spans(self) -> list[bytes]:
        """Return them, encoded."""


class MessageExporter(OTLPSpanExporter):
    """Sends messages that are encoded already: where to and how, the SDK's exporter has read of the environment."""

    def send(self, message: bytes) -> bool:
        """Send a message, and return whether it was taken, as `export` does with those that it encodes (1.45.2)."""
        return self._client.export(message).success


class CountingExporter:
    """Encodes and sends spans, and counts what it took and what was lost; in the thread of the processor."""

    def __init__(self, exporter: MessageExporter, resource: Resource) -> None:
        self._exporter = exporter
        self._empty = empty_request(resource)
        self._lost = CountedWarning(log, LOST, COUNTER)
        self._reasons: list[str] = []
        self.taken = 0
        EXPORTER_LOG.addFilter(self._keep_reason)

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        """Keep what the exporter would log at each try, for the line that says how many spans were lost."""
        self._reasons.append(record.getMessage())
        return False

    def export(self, ended: Sequence[Ended]) -> SpanExportResult:
        """Export the spans of what has ended."""
        spans = [span for one in ended for span in one.spans()]
        parts = [spans[first : first + EXPORTED_SPANS_MAX] for first in range(0, len(spans), EXPORTED_SPANS_MAX)]
        are_sent = [self._send(part) for part in parts]
        return SpanExportResult.SUCCESS if all(are_sent) else SpanExportResult.FAILURE

    def _send(self, spans: list[bytes]) -> bool:
        """Send spans in one request; return whether they were taken."""
        self.taken += len(spans)
        self._reasons.clear()
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._empty)
        add = request.resource_spans[0].scope_spans[0].spans.add
        for span in spans:
            add().MergeFromString(span)
        is_sent = self._exporter.send(request.SerializeToString())
        if not is_sent:
            self._lost.add(len(spans), error=" ".join(dict.fromkeys(self._reasons)))
        return is_sent

    def shutdown(self) -> None:
        """End an export that is under way, and have no other."""
        EXPORTER_LOG.removeFilter(self._keep_reason)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class BoundedSpanProcessor(BatchSpanProcessor):
    """Queues what has spans for an exporter; beyond the bound it is lost, and counted, as the SDK itself does not."""

    def __init__(self, exporter: CountingExporter) -> None:
        super().__init__(
            exporter,  # type: ignore[arg-type] # of spans that are not the SDK's
            max_queue_size=QUEUED_SPANS_MAX,
            max_export_batch_size=EXPORTED_SPANS_MAX,
        )
        self._counting = exporter
        self._lost = CountedWarning(log, LOST, COUNTER)
        self._queued = 0

    def add(self, ended: Ended) -> None:
        """Queue the spans of what has ended, in the event loop."""
        queued = self._queued + ended.span_count
        if queued - self._counting.taken > QUEUED_SPANS_MAX:
            self._lost.add(ended.span_count, error=QUEUE_FULL)
            return
        self._queued = queued
        # As `on_end` does with each span that is sampled, of which the queue asks nothing (1.45.2).
        self._batch_processor.emit(ended)  # type: ignore[arg-type]

    def shutdown(self) -> None:
        """Export what is queued, for as long as that takes, up to half a minute."""
        super().shutdown()  # type: ignore[no-untyped-call]


def empty_request(resource: Resource) -> ExportTraceServiceRequest:
    """Return a request to the collector that lacks but the spans: what it says of a resource is encoded by the SDK."""
    scope = InstrumentationScope("items-service")
    request = encode_spans([ReadableSpan("", INVALID_SPAN_CONTEXT, resource=resource, instrumentation_scope=scope)])
    del request.resource_spans[0].scope_spans[0].spans[:]
    return request


def span_export(resource: Resource) -> BoundedSpanProcessor:
    """Return what exports spans by OTLP over HTTP, to where the standard variables say (OTEL_EXPORTER_OTLP_…)."""
    exporter = MessageExporter(timeout=EXPORT_TIMEOUT_S)
    return BoundedSpanProcessor(CountingExporter(exporter, resource))
