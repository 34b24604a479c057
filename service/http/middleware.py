"""The outermost middleware: each request's id, its log line, and the response to an exception."""

import logging
import re
import time
from itertools import count
from secrets import token_hex
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from db.errors import Overloaded
from db.limit import Limit
from service.http.body import discard_body
from service.http.problems import INVALID_HEADER, OVERLOADED, TOO_MANY_REQUESTS, ProblemError, render
from service.http.response import CLOSE, Response, send_response
from service.http.server_timing import timed
from service.observability.counted import CountedWarning
from service.observability.current_request import ENDED, SCOPE
from service.observability.requests import RequestMetrics
from service.worker_state import WorkerState

log = logging.getLogger("service")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# A name or address, and a port (RFC 3986, section 3.2.2). It is never empty in an http URI (RFC 9110, section 4.2.1).
HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:._~!$&'()*+,;=-]{1,255}\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})(?::[0-9]{0,5})?"
)
SERVER_ERROR = 500
# Of a method or a path; every path in ROUTES is shorter, and one may have 64 KiB, which would fill the log's pipe.
LOGGED_CHARACTERS_MAX = 256
# Served however many requests are being served.
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
NS_PER_MS = 10**6


class RequestMiddleware:
    """Numbers, counts, logs and bounds requests, and turns exceptions into responses.

    More than `requests_max` requests at once are refused with a 503, except for probes.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        app: ASGIApp,
        *,
        worker_state: WorkerState,
        metrics: RequestMetrics | None,
        requests_max: int,
        access_log: bool,
        slow_request_ms: int,
        server_timing: bool = False,
        debug: bool,
    ) -> None:
        self.app = app
        self._worker_state = worker_state
        self._metrics = metrics
        self._requests_max = requests_max
        self._refusals = CountedWarning(log, "requests refused", "refused")
        self._access_log = access_log
        self._slow_request_ns = slow_request_ms * NS_PER_MS
        self._server_timing = server_timing
        self._debug = debug
        self._host: bytes | None = None  # the latest that was valid
        # Unique among processes by chance, within one by counting: a random number for each request costs more.
        self._prefix = token_hex(6).encode()
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter_ns()
        scope["request_id"], mistake = self._read_head(scope)
        scope["worker_state"] = self._worker_state
        scope["status"] = 0  # until a response begins
        SCOPE.set(scope)
        if self._server_timing:
            send = timed(scope, send, started)
        if self._worker_state.requests >= self._requests_max and scope["path"] not in PROBES:
            await self._refuse(scope, send, started)
            return
        self._worker_state.requests += 1
        try:
            if mistake:  # where the next request begins depends on the head
                raise ProblemError(INVALID_HEADER, mistake, headers=[CLOSE])  # noqa: TRY301 - rendered as any other
            await self.app(scope, receive, send)
        except Exception as error:
            if not await self._respond(error, scope, receive, send):
                raise
        finally:
            self._worker_state.requests -= 1
            if "caller" in scope:
                scope["caller"].leave()
            self._end(scope, started)

    def _end(self, scope: Scope, started: int) -> None:
        """Count and log a request that is over, however it has ended."""
        elapsed = time.perf_counter_ns() - started
        if self._metrics is not None:
            self._metrics.observe(scope, elapsed)
        if self._access_log or elapsed > self._slow_request_ns:
            level = logging.WARNING if elapsed > self._slow_request_ns else logging.INFO
            log.log(level, "request", extra={**log_fields(scope), "duration_ms": round(elapsed / NS_PER_MS, 3)})
        scope[ENDED] = True

    async def _respond(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> bool:
        """Send the response to an exception; return False if half a response is out: the connection must be cut."""
        response = render(error, scope["request_id"].decode())
        self._log_error(scope, error, response)
        if scope["status"]:
            return False
        await send_response(scope, send, response)
        if CLOSE in response.headers and not expects_continue(scope):
            await discard_body(receive)
        return True

    async def _refuse(self, scope: Scope, send: Send, started: int) -> None:
        """Send a 503: too many requests are being served."""
        error = ProblemError(OVERLOADED, f"{self._requests_max} requests are being served.")
        self._refusals.add(error=repr(error))
        if self._metrics is not None:
            self._metrics.count_shed(Limit.REQUESTS)
        try:
            await send_response(scope, send, render(error, scope["request_id"].decode()))
        finally:
            self._end(scope, started)

    def _read_head(self, scope: Scope) -> tuple[bytes, str]:
        """Return the request's id, and a mistake in its head that Granian lets through (RFC 9112), or "".

        Granian 2.8.7 adds an empty Host to a request without one; in HTTP/1.0 it may be missing.
        """
        request_id, mistake, hosts, codings = b"", "", 0, 0
        for name, value in scope["headers"]:
            if name == b"host":
                hosts += 1
                if value != self._host and not self._is_host(value, scope):
                    mistake = "Host must be a name or an address, and a port if there is one."
            elif name == b"x-request-id":
                if not request_id and REQUEST_ID.fullmatch(value):
                    request_id = bytes(value)
            elif name == b"transfer-encoding":  # of which chunked is the last, or Granian would refuse it
                codings += 1
                if codings > 1 or value.strip().lower() != b"chunked":
                    mistake = "Transfer-Encoding must be chunked, and no more."
        if hosts > 1:
            mistake = "Host must be sent once."
        return request_id or b"%s-%x" % (self._prefix, next(self._count)), mistake

    def _is_host(self, value: bytes, scope: Scope) -> bool:
        """Return whether a Host is valid, and remember it: most requests have the same."""
        if HOST.fullmatch(value):
            self._host = value
            return True
        return not value and scope.get("http_version") == "1"

    def _log_error(self, scope: Scope, error: Exception, response: Response) -> None:
        if self._metrics is not None:
            self._metrics.count_error(error, response.status)
        if isinstance(error, Overloaded) or response.status == TOO_MANY_REQUESTS.status:
            self._refusals.add(error=repr(error))
            return
        if response.status < SERVER_ERROR:
            return
        level = logging.ERROR if response.status == SERVER_ERROR else logging.WARNING
        extra = {**log_fields(scope), "status": response.status, "error": repr(error)}
        log.log(level, "request failed", extra=extra, exc_info=error if self._debug else None)


def expects_continue(scope: Scope) -> bool:
    """Return whether the client sends its body only after a 100 (RFC 9110, section 10.1.1)."""
    return any(name == b"expect" for name, _ in scope["headers"])


def log_fields(scope: Scope) -> dict[str, Any]:
    """Return the log fields of a request, without its query, which may hold what must not be logged."""
    return {
        "request_id": scope["request_id"].decode(),
        "method": scope["method"][:LOGGED_CHARACTERS_MAX],
        "path": scope["path"][:LOGGED_CHARACTERS_MAX],
        "status": scope["status"],
    }
