"""The client: one service, its connections, and its resources."""

from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Self
from urllib.parse import urlsplit

from .items import Items
from .retries import RetryBudget, RetryingSender
from .tracing import trace_headers
from .transport import Transport
from .users import Users

TIMEOUT_S = 10.0
CONNECTIONS_MAX = 100
USER_AGENT = "items-client/0.1.0"


class Client:
    """A client of one service, there from entering the block until leaving it. Keep it as long as the program runs.

    `timeout` is the seconds for each whole call: the wait for one of `connections_max` connections, all tries, and the
    work of the service. `trace_headers` returns the headers that pass the caller's trace on; by default those of
    `items_client.traceparent` or of OpenTelemetry's current span. Raises ValueError.
    """

    def __init__(  # noqa: PLR0913 - what a client can be told
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        ssl_context: SSLContext | None = None,
        trace_headers: Callable[[], Mapping[str, str]] = trace_headers,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no address of a service, like 'http://127.0.0.1:8000'")
        if timeout <= 0:
            raise ValueError(f"timeout has to be more than 0 seconds, and is {timeout}")
        headers = {"User-Agent": USER_AGENT} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        self._transport = Transport(
            url, headers, trace_headers, connections_max=connections_max, ssl_context=ssl_context
        )
        sender = RetryingSender(self._transport, RetryBudget())
        self.items = Items(sender, timeout)
        self.users = Users(sender, timeout)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__()
