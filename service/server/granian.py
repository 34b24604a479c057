"""Granian: its settings for this service, and all that is used of its insides.

The insides were read in version 2.8.7, and tests/server/test_granian.py fails when they change.
"""

import os
import signal
import socket
from collections.abc import Callable
from functools import cached_property, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from granian._granian import ProcInfoCollector, SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from service.observability.logging import log_settings
from service.server.descriptors import connections_max
from service.server.listener import BACKLOG, loopback_listener
from service.server.termination import CONNECTION_FILES, ends_tls_in_front, termination
from service.settings import Settings

# Returns a worker's application, in the worker; under TLS it is given what makes the Termination.
Load = Callable[..., Any]
# Of a request's head; beyond, 431, as for more than 100 headers. A connection may hold so much before it is complete,
# and the longest address that is of use here has some 20,000.
HEAD_BYTES_MAX = 64 * 1024


class Granian(MPServer):
    """Granian's server, of which only the worker processes are used.

    Its own loop acts on no signal while it replaces a worker, may miss a death, and gives up when the same worker dies
    twice in 5.5 seconds. Of what `serve` and `startup` prepare, `_spawn_worker` needs the socket and `runtime_mode`.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            "service",
            interface=Interfaces.ASGI,
            runtime_mode=RuntimeModes.mt,
            loop=Loops.uvloop,
            http=HTTPModes.http1,
            websockets=False,
            http1_settings=HTTP1Settings(
                header_read_timeout=settings.idle_timeout_ms,  # milliseconds, also from the end of the request before
                max_buffer_size=HEAD_BYTES_MAX,
            ),
            backlog=BACKLOG,
            backpressure=connections_max(
                settings.batch_connections + settings.pool_size,
                settings.workers,
                CONNECTION_FILES if ends_tls_in_front(settings) else 1,
            ),
            log_level=LogLevels(settings.log_level),  # of its own logger
            log_dictconfig=log_settings(debug=settings.debug, level=settings.log_level, log_format=settings.log_format),
            **_tls(settings),
        )
        self._settings = settings
        self._behind_tls: socket.socket | None = None

    def process(self, index: int, listener: socket.socket, load: Load) -> BaseProcess:
        """Return a worker's process, not started yet, which serves at a socket the application that `load` returns.

        Under TLS it is the worker's Termination that accepts there, and Granian is behind it, at a socket of its own.
        """
        if self._settings.tls_cert:
            public = listener
            if ends_tls_in_front(self._settings):
                listener = self._behind_tls = loopback_listener()
            end = partial(termination, self._settings, public, listener.getsockname()[:2], self.backpressure)
            load = partial(load, end)
        holder: Any = SocketHolder
        self._sso, self._shd = listener, holder(listener.fileno(), False, BACKLOG)  # noqa: FBT003 - no Unix socket
        process: BaseProcess = self._spawn_worker(index, self._spawn_asgi_lifespan_worker, load).inner
        return process

    def release(self) -> None:
        """Close what the worker has by now, and nobody else may have."""
        if self._behind_tls is not None:
            self._behind_tls.close()

    @cached_property
    def _collector(self) -> Any:  # its types are wrong, as SocketHolder's
        """What reads the memory of processes: to make one takes 7 ms, and few set a limit."""
        return ProcInfoCollector()

    def resident_bytes(self, pid: int | None) -> int:
        """Return the resident memory of a process; of one that has ended what was read last, or 0."""
        try:
            return int(self._collector.memory([pid])[pid])
        except RuntimeError:
            return 0


def _tls(settings: Settings) -> dict[str, Any]:
    """Return the settings of Granian's own TLS, where that is enough."""
    if not settings.tls_cert or ends_tls_in_front(settings):
        return {}
    files = {"ssl_cert": Path(settings.tls_cert), "ssl_key": Path(settings.tls_key)}
    return {**files, "ssl_protocol_min": SSLProtocols(f"tls{settings.tls_version_min}")}


def stop_accepting() -> None:
    """Run Granian's handler of SIGTERM in a worker, once: a third time would block the event loop of granian 2.8.7."""
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # what is pending is delivered before this returns
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
