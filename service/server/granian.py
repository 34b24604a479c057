"""Granian, set up for this service."""

import socket
from functools import partial

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings

from service.app import create_app
from service.observability.logging import log_settings
from service.server.supervisor import Supervisor
from service.settings import Settings

# Granian counts idle connections, too.
CONNECTIONS_MAX = 8192
BACKLOG = 2048
# Of a request's head; beyond, 431, as for more than 100 headers. A connection may hold so much before it is complete,
# and the longest address that is of use here has some 20,000.
HEAD_BYTES_MAX = 64 * 1024


def address(host: str, port: int) -> tuple[str, int]:
    """Return the address and port to listen on: a name is resolved, and port 0 becomes a free one.

    Raises OSError, also if another process listens there by SO_REUSEPORT, as Granian does: it would get connections.
    """
    family, kind, protocol, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found)
        free: tuple[str, int] = listener.getsockname()[:2]
        return free


def serve(settings: Settings) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT, and respond to what is in flight."""
    server = Supervisor(
        drain_delay_s=settings.drain_delay_ms / 1000,
        end_timeout_s=settings.shutdown_timeout_s,
        worker_lifetime_s=settings.worker_lifetime_s,
        worker_memory_mib_max=settings.worker_memory_mib_max,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.idle_timeout_ms,  # milliseconds, also from the end of the request before
            max_buffer_size=HEAD_BYTES_MAX,
        ),
        backlog=BACKLOG,
        backpressure=CONNECTIONS_MAX,
        log_dictconfig=log_settings(debug=settings.debug),
    )
    server.serve(target_loader=partial(create_app, settings), wrap_loader=False)
