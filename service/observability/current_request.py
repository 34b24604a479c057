"""The request that is being served: what a line of the log, and a call of another service, belong to."""

from collections.abc import MutableMapping
from contextvars import Context, ContextVar, copy_context
from typing import Any

from service.observability.trace_context import TraceContext, read_trace_context

Scope = MutableMapping[str, Any]

# Granian serves each request in a task of its own, so it need not be reset. What a request leaves behind, such as a
# timer, has it as well: with ENDED in it, it is no more the current one.
SCOPE: ContextVar[Scope | None] = ContextVar("scope", default=None)
ENDED = "ended"
REQUEST_ID, TRACE_CONTEXT = "request_id", "trace_context"


def current_scope() -> Scope | None:
    """Return the scope of the request that is being served here; None outside of any."""
    scope = SCOPE.get()
    return None if scope is None or ENDED in scope else scope


def request_context() -> Context:
    """Return the context of a task that works for the request that is being served here."""
    context = copy_context()
    context.run(SCOPE.set, current_scope())
    return context


def trace_context(scope: Scope) -> TraceContext | None:
    """Return the trace context of a request: that of its own span, or else the client's, if it sent one.

    It is read when something is to be logged, or another service to be called: most requests need none.
    """
    if TRACE_CONTEXT not in scope:
        scope[TRACE_CONTEXT] = read_trace_context(scope["headers"])
    found: TraceContext | None = scope[TRACE_CONTEXT]
    return found


def trace_headers() -> list[tuple[str, str]]:
    """Return the headers that tell another service which trace a call belongs to; none if there is no trace."""
    scope = current_scope()
    context = trace_context(scope) if scope is not None else None
    return context.headers() if context is not None else []
