"""/metrics at a port of its own: any worker responds, in threads, so also while its event loop is busy or stuck."""

import logging
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from io import StringIO
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore, Thread, Timer
from typing import Any, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

# Each client has so long for all of it, and so many are served at a time: who is slow, or sends nothing, is in nobody's
# way.
CLIENT_S_MAX = 3
CLIENTS_MAX = 16
PATH = "/metrics"
PLAIN = "text/plain; charset=utf-8"

Text = Callable[[str], tuple[bytes, str]]  # of an Accept: the metrics, and their media type


class MetricsServer:
    """Serves the metrics to whoever connects at a socket, which workers share, until it is stopped."""

    def __init__(self, listener: socket.socket, text: Text) -> None:
        self._server = _Server(listener, _application(text))
        self._thread = Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept no more, from some moment on: another worker does. Who is being served is."""
        Thread(target=self._server.shutdown, name="metrics-stop", daemon=True).start()

    def _serve(self) -> None:
        self._server.serve_forever()
        self._server.server_close()


def _application(text: Text) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """Return the application: one path, two methods."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, body, headers = HTTPStatus.OK, b"", {"Content-Type": PLAIN}
        if environ["PATH_INFO"] != PATH:
            status, body = HTTPStatus.NOT_FOUND, b"Here is /metrics alone.\n"
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, body, headers["Allow"] = HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD.\n", "GET, HEAD"
        else:
            body, headers["Content-Type"] = text(environ.get("HTTP_ACCEPT", ""))
            headers |= {"Vary": "Accept", "Cache-Control": "no-store"}
        headers |= {"Content-Length": str(len(body)), "Server": "items-service"}
        start_response(f"{status.value} {status.phrase}", list(headers.items()))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return respond


class _Handler(WSGIRequestHandler):
    wbufsize = -1  # head and body are sent together

    def setup(self) -> None:
        self._timer = Timer(CLIENT_S_MAX, self._cut)
        self._timer.daemon = True
        self._timer.start()
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._timer.cancel()

    def _cut(self) -> None:
        with suppress(OSError):  # it has ended right now
            self.connection.shutdown(socket.SHUT_RDWR)

    def get_stderr(self) -> TextIO:
        """Return where nobody reads: the standard one may be a pipe that is full, and its lines are JSON."""
        return StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Log nothing: a scrape is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    """The standard library's server, at a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, app: Any) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(app)
        self._places = BoundedSemaphore(CLIENTS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log why a client was not served, in one line."""
        log.info("A client of the metrics' port was not served: %r", sys.exc_info()[1])
