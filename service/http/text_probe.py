"""An operation whose result is a text that is no JSON: what a monitoring system reads."""

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from service.context import Context
from service.http.admission import Admission
from service.http.headers import combined
from service.http.operation import Operation
from service.http.response import NO_STORE, Response, send_response

Text = tuple[bytes, str]  # with its media type


class TextProbe(Operation):
    """An operation that reads nothing of a request but Accept, which the handler is given; `scope` may be needed.

    The OpenAPI document does not have it: its format is another's, and whoever reads it needs no client.
    """

    def __init__(self, handler: Callable[[Context, str], Awaitable[Text]], scope: str) -> None:
        super().__init__(handler, scope=scope, cache_control=NO_STORE)
        self._admit = Admission(scope, None, own_rows=False, is_owned=False).admit
        self._read = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - no body is read
        """Find out who calls, call the handler, and send its text. Raises a 401, a 403 and a 429."""
        headers, context = combined(scope["headers"]), scope["state"]["context"]
        if context.authenticator:
            await self._admit(context, context.authenticator, headers, scope, anew=False)
        text, content_type = await self._read(context, headers.get(b"accept", b"").decode("latin-1"))
        response = Response(200, [(b"content-type", content_type.encode()), (b"vary", b"Accept"), NO_STORE], text)
        await send_response(scope, send, response)
