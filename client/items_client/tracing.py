"""W3C trace context: the headers by which the service's spans join the caller's trace."""

from collections.abc import Mapping
from contextvars import ContextVar

try:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # its spans are passed on where they are
    inject = None
else:
    inject = TraceContextTextMapPropagator().inject

# The header of that name, set by programs that trace without OpenTelemetry.
traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def trace_headers() -> Mapping[str, str]:
    """Return the headers of the current trace: those of `traceparent`, or else of OpenTelemetry's current span."""
    if parent := traceparent.get():
        return {"traceparent": parent}
    headers: dict[str, str] = {}
    if inject is not None:
        inject(headers)
    return headers
