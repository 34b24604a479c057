"""What is known of every request: its id, its log line, and the answer to whatever was raised on its way."""

import logging
import re
import time
from itertools import count
from secrets import token_hex
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from db.errors import Overloaded
from service.http.body import discard_body
from service.http.problems import CLOSE, OVERLOADED, ProblemError, Rendered, render
from service.http.response import reply
from service.worker_state import WorkerState

log = logging.getLogger("service")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
SERVER_ERROR = 500
# Of a method or a path; every path of use is shorter, and one may have 64 KiB, which would fill the log's pipe.
LOGGED_CHARACTERS_MAX = 256
# Served however much is being served.
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
REFUSALS_LOG_INTERVAL_S = 1


class RequestMiddleware:
    """The outermost middleware: nothing that happens inside is unseen."""

    def __init__(  # noqa: PLR0913 - settings
        self,
        app: ASGIApp,
        *,
        worker_state: WorkerState,
        requests_max: int,
        access_log: bool,
        slow_request_ms: int,
        debug: bool,
    ) -> None:
        self.app = app
        self._standing = worker_state
        self._requests_max = requests_max
        self._requests = 0  # that are being served
        self._refused = 0  # since the log last had a line of it
        self._refused_logged = 0.0
        self._access_log = access_log
        self._slow_request_s = slow_request_ms / 1000
        self._debug = debug
        # Unique among processes by chance, inside one by counting: a random number for each request costs more.
        self._prefix = token_hex(6).encode()
        self._count = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and say what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        scope["request_id"] = self._request_id(scope)
        scope["worker_state"] = self._standing
        scope["status"] = 0  # until an answer begins
        if self._requests >= self._requests_max and scope["path"] not in PROBES:
            await self._refuse(scope, send)
            return
        self._requests += 1
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            rendered = render(error, scope["request_id"].decode())
            if isinstance(error, Overloaded):
                self._refused_one(error)
            elif rendered.status >= SERVER_ERROR:
                self._failed(scope, error, rendered)
            if scope["status"]:  # half an answer is out: the server must cut the connection
                raise
            await reply(scope, send, *rendered)
            if CLOSE in rendered.headers and not expects_continue(scope):
                await discard_body(receive)
        finally:
            self._requests -= 1
        elapsed = time.perf_counter() - started
        if self._access_log or elapsed > self._slow_request_s:
            log.info("request", extra={**described(scope), "duration_ms": round(elapsed * 1000, 3)})

    async def _refuse(self, scope: Scope, send: Send) -> None:
        """Answer that too much is being served."""
        error = ProblemError(OVERLOADED, f"{self._requests_max} requests are being served.")
        self._refused_one(error)
        await reply(scope, send, *render(error, scope["request_id"].decode()))

    def _refused_one(self, error: Exception) -> None:
        """Count a refusal for want of room, and log how many there were; a line for each would cost more than it."""
        self._refused += 1
        now = time.monotonic()
        if now > self._refused_logged + REFUSALS_LOG_INTERVAL_S:
            log.warning("requests refused", extra={"refused": self._refused, "error": repr(error)})
            self._refused, self._refused_logged = 0, now

    def _request_id(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
                return bytes(value)
        return b"%s-%x" % (self._prefix, next(self._count))

    def _failed(self, scope: Scope, error: Exception, rendered: Rendered) -> None:
        level = logging.ERROR if rendered.status == SERVER_ERROR else logging.WARNING
        extra = {**described(scope), "status": rendered.status, "error": repr(error)}
        log.log(level, "request failed", extra=extra, exc_info=error if self._debug else None)


def expects_continue(scope: Scope) -> bool:
    """Whether the client sends its body only if it is asked to (RFC 9110, section 10.1.1)."""
    return any(name == b"expect" for name, _ in scope["headers"])


def described(scope: Scope) -> dict[str, Any]:
    """Return which request it was, without its query, which may hold what should not be logged."""
    return {
        "request_id": scope["request_id"].decode(),
        "method": scope["method"][:LOGGED_CHARACTERS_MAX],
        "path": scope["path"][:LOGGED_CHARACTERS_MAX],
        "status": scope["status"],
    }
