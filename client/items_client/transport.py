"""One try of a request over a pooled connection: MessagePack over HTTP/1.1, by aiohttp."""

import asyncio
from collections.abc import Callable, Mapping
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from .errors import ConnectionFailed
from .messages import Request, Response

MSGPACK = "application/msgpack"
CONNECT_TIMEOUT_S = 5.0  # a black hole costs no more of a deadline than this
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)  # a call's deadline holds besides
REQUEST_TIMEOUT_S_MIN, REQUEST_TIMEOUT_S_MAX = 0.001, 999_999

encode = msgspec.msgpack.Encoder().encode


class Progress:
    """How far a try has come: what waits for a connection has sent nothing."""

    sent = False


class Transport:
    """The connections to one service, there from entering the block until leaving it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        trace_headers: Callable[[], Mapping[str, str]],
        *,
        connections_max: int,
        ssl_context: SSLContext | None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": MSGPACK, **headers}
        self._trace_headers = trace_headers
        self._connections_max = connections_max
        self._ssl = True if ssl_context is None else ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> None:
        self._session = await aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections_max, ssl=self._ssl),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            skip_auto_headers=["Accept-Encoding"],
            timeout=TIMEOUT,
            trace_configs=[_progress_of_requests()],
        ).__aenter__()

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, request: Request, progress: Progress) -> Response:
        """Return the response of whatever status. Raises ConnectionFailed."""
        if self._session is None:
            raise RuntimeError("the client is used outside of its with block")
        try:
            async with self._session.request(
                request.method,
                self._address(request),
                data=None if request.body is None else encode(request.body),
                headers=self._request_headers(request),
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                return Response(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailed(f"The connection failed: {error!r}") from error

    def _address(self, request: Request) -> URL:
        path = request.collection if request.id is None else f"{request.collection}/{request.id}"
        return URL(f"{self._url}/{path}{request.query and f'?{request.query}'}", encoded=True)

    def _request_headers(self, request: Request) -> dict[str, str]:
        left = request.deadline - asyncio.get_running_loop().time()
        seconds = min(max(left, REQUEST_TIMEOUT_S_MIN), REQUEST_TIMEOUT_S_MAX)
        headers = {**self._trace_headers(), "X-Request-Timeout": f"{seconds:.3f}"}
        if request.body is not None:
            headers["Content-Type"] = MSGPACK
        if request.version is not None:
            headers["If-Match"] = f'"{request.version}-msgpack"'
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers


def _progress_of_requests() -> aiohttp.TraceConfig:
    """Return what lets aiohttp say that it sends a request; also when it sends one again by itself."""

    async def mark(_session: aiohttp.ClientSession, context: SimpleNamespace, _sent: Any) -> None:
        context.trace_request_ctx.sent = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(mark)
    return tracing
