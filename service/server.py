"""Granian, set up for this service."""

import signal
import socket
from functools import partial

from granian.constants import HTTPModes, Interfaces, Loops
from granian.server import Server
from starlette.routing import Router

from service.app import create_app
from service.settings import Settings
from service.telemetry import log_settings

# Granian counts idle connections, too.
CONNECTIONS_MAX = 8192
BACKLOG = 2048


def address(host: str, port: int) -> tuple[str, int]:
    """Find where to listen: a name becomes its address, and port 0 one that is free.

    Raises OSError, also where someone else listens by SO_REUSEPORT, as Granian does: they would share what comes in.
    """
    family, kind, protocol, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found)
        free: tuple[str, int] = listener.getsockname()[:2]
        return free


def serve(settings: Settings) -> None:
    """Serve with as many processes as the settings say, until SIGTERM or SIGINT, and let what is in flight finish."""
    server = Server(
        "service",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS_MAX,
        log_dictconfig=log_settings(debug=settings.debug),
        respawn_failed_workers=True,
        workers_kill_timeout=settings.shutdown_timeout_s,
    )
    server.serve(target_loader=partial(load, settings), wrap_loader=False)


def load(settings: Settings) -> Router:
    """Make a worker's application."""
    # Until its loop listens for signals a worker has its parent's handlers, which would swallow a stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    return create_app(settings)
