"""Probes: operations with a response to every request, as what sends them may not be able to change it."""

from typing import Any

from starlette.types import Receive, Scope, Send

from service.context import Context
from service.http.headers import combined
from service.http.media_types import JSON, MediaType, negotiate
from service.http.operation import Operation
from service.http.problems import ProblemError
from service.http.response import NO_STORE, send_response


class Probe(Operation):
    """An operation that reads nothing of a request but Accept, and disregards one that it cannot fulfil.

    A cache buster in the query or an `Accept: text/plain` must not take a service for dead. RFC 9110, section 12.5.1,
    lets a server disregard Accept.
    """

    def __init__(self, handler: Any, **options: Any) -> None:
        super().__init__(handler, cache_control=NO_STORE, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - no body is read
        """Call the handler, encode its result and send it. Raises the ProblemError of the handler."""
        context: Context = scope["state"]["context"]
        result = await self.handler(context=context)
        await send_response(scope, send, self.encode(result, _media_type(scope), {}))


def _media_type(scope: Scope) -> MediaType:
    try:
        return negotiate(combined(scope["headers"]).get(b"accept"))
    except ProblemError:
        return JSON
