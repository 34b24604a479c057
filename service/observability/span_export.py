"""The way of spans to the collector: a bounded queue, and a thread that sends; what is lost is counted, and logged.

A collector that is down, or slow, costs spans and no requests.
"""

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service.observability.counted import CountedWarning

log = logging.getLogger(__name__)

QUEUED_SPANS_MAX = 4096
EXPORTED_SPANS_MAX = 512  # in one request
EXPORT_TIMEOUT_S = 2.0
LOST, COUNTER = "spans lost", "lost"
QUEUE_FULL = f"{QUEUED_SPANS_MAX} spans wait for the collector"
# Where the exporter logs why it failed.
EXPORTER_LOG = logging.getLogger(OTLPSpanExporter.__module__)


class CountingExporter(SpanExporter):
    """Exports by another exporter, and counts what it took and what was lost; in the thread of the processor."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = CountedWarning(log, LOST, COUNTER)
        self._reasons: list[str] = []
        self.taken = 0
        EXPORTER_LOG.addFilter(self._keep_reason)

    def _keep_reason(self, record: logging.LogRecord) -> bool:
        """Keep what the exporter would log at each try, for the line that says how many spans were lost."""
        self._reasons.append(record.getMessage())
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans."""
        self.taken += len(spans)
        self._reasons.clear()
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost.add(len(spans), error=" ".join(dict.fromkeys(self._reasons)))
        return result

    def shutdown(self) -> None:
        """End an export that is under way, and have no other."""
        EXPORTER_LOG.removeFilter(self._keep_reason)
        self._exporter.shutdown()


class BoundedSpanProcessor(BatchSpanProcessor):
    """Queues spans for an exporter; beyond the bound they are lost, and counted, as the SDK's own bound counts none."""

    def __init__(self, exporter: CountingExporter) -> None:
        super().__init__(
            exporter,
            max_queue_size=QUEUED_SPANS_MAX,
            max_export_batch_size=EXPORTED_SPANS_MAX,
        )
        self._counting = exporter
        self._lost = CountedWarning(log, LOST, COUNTER)
        self._queued = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, in the event loop."""
        if self._queued - self._counting.taken >= QUEUED_SPANS_MAX:
            self._lost.add(error=QUEUE_FULL)
            return
        self._queued += 1
        super().on_end(span)

    def shutdown(self) -> None:
        """Export what is queued, for as long as that takes, up to half a minute."""
        super().shutdown()  # type: ignore[no-untyped-call]


def span_export() -> BoundedSpanProcessor:
    """Return what exports spans by OTLP over HTTP, to where the standard variables say (OTEL_EXPORTER_OTLP_…)."""
    return BoundedSpanProcessor(CountingExporter(OTLPSpanExporter(timeout=EXPORT_TIMEOUT_S)))
