"""OpenTelemetry traces: the span of a request, its waits for batches, and each batch's statement.

Nothing else imports OpenTelemetry, and this module is imported only where traces are on: it takes 7 MiB and 0.2 s.
"""

import threading
from asyncio import get_running_loop, timeout
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic_ns, time_ns
from typing import NamedTuple, Self
from uuid import uuid4

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from service.observability.current_request import TRACE_CONTEXT, Scope
from service.observability.request_batches import BatchRun
from service.observability.span_export import span_export
from service.observability.spans import SERVER_ERROR, EndedBatch, EndedRequest, new_span_id, new_trace_id
from service.observability.trace_context import RANDOM, SAMPLED, TraceContext

SPAN = "span"  # in the scope of a request that is traced
CHARACTERS_MAX = 256  # of what a client sends


class RequestSpan(NamedTuple):
    """The span of a request that is being served."""

    context: TraceContext
    parent: TraceContext | None
    started: int


class Traces:
    """Records spans, and exports them from a thread of its own.

    It is entered in the worker, as no thread outlives a fork. When a request or a batch has ended, only what its spans
    will say is noted: the SDK's own cost ten times as much, and take links at their beginning alone, and 128 of them.
    """

    def __init__(self, *, database: str, shutdown_s: float) -> None:
        self._database = database  # its name in the semantic conventions
        self._shutdown_s = shutdown_s

    async def __aenter__(self) -> Self:
        """Start the thread."""
        ours = {"service.name": "items-service", "service.instance.id": str(uuid4())}
        self._export = span_export(Resource.create(ours).merge(OTELResourceDetector().detect()))
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
        span_id = new_span_id()
        own = parent.within(span_id) if parent else TraceContext(new_trace_id(), span_id, SAMPLED | RANDOM)
        scope[SPAN] = RequestSpan(own, parent, time_ns())
        scope[TRACE_CONTEXT] = own

    def end(self, scope: Scope, route: str | None, error: BaseException | None) -> None:
        """End the span of a request, whose route is the path with its parameters' names."""
        span: RequestSpan = scope[SPAN]
        status = scope.get("status", 0)
        failed = str(status) if status >= SERVER_ERROR else ""
        ended = EndedRequest(
            *span,
            ended=time_ns(),
            method=scope["method"][:CHARACTERS_MAX],
            path=scope["path"][:CHARACTERS_MAX],
            scheme=scope.get("scheme", "http"),
            http_version=scope.get("http_version", "1.1"),
            server=scope.get("server"),
            user_agent=next((value for name, value in scope["headers"] if name == b"user-agent"), b"")[:CHARACTERS_MAX],
            request_id=scope.get("request_id", b""),
            route=route,
            status=status,
            error=type(error).__qualname__ if error is not None else failed,
        )
        self._export.add(ended)

    def record(self, run: BatchRun, served: Sequence[tuple[float, Scope]]) -> None:
        """Record a batch's statement, and the wait of every request for it that is traced."""
        waits = [(since, scope[SPAN].context) for since, scope in served if SPAN in scope]
        if waits:
            self._export.add(EndedBatch(run, waits, time_ns() - monotonic_ns(), self._database))
