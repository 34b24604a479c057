"""/metrics at a port of its own: any worker responds, in a thread, so also while its event loop is busy or stuck."""

import logging
import sys
from socket import socket
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

log = logging.getLogger(__name__)

# One client at a time is served; one that neither sends nor takes is not waited for longer.
CLIENT_TIMEOUT_S = 2


def serve_metrics(listener: socket, registry: CollectorRegistry) -> None:
    """Serve the metrics to whoever connects at a socket, which workers share, until the process ends."""
    server = _Server(listener, make_wsgi_app(registry))
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Log nothing: a scrape is no event."""


class _Server(WSGIServer):
    """The standard library's server, at a socket that listens already."""

    def __init__(self, listener: socket, app: Any) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(app)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log why a client was not served, in one line."""
        log.info("A client of the metrics' port was not served: %r", sys.exc_info()[1])
