"""TLS ends here, in front of Granian: so the application knows which client certificate a request came with.

Granian 2.8.7 to 2.8.9 verify client certificates, and tell the application nothing of them (its issue 788). So each
worker accepts the clients' connections itself, and opens one to its own Granian for each, from an address of
127.0.0.0/8 that is used for no other one. By that address, which Granian tells the application and no header can
change, the application finds the client's own address and certificate.
"""

import asyncio
import logging
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from math import inf
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth.certificates import certificate_of
from service.auth.identity import Certificate
from service.observability.counted import CountedWarning
from service.server.listener import BACKLOG
from service.server.tls import server_context
from service.server.tls_connection import ClientConnection, GranianConnection
from service.settings import Settings

log = logging.getLogger(__name__)

# A connection takes three files: the client's, and both ends of the one to Granian.
CONNECTION_FILES = 3
# How long a worker that ends waits for handshakes, and for the first response on a connection that it has accepted.
FRESH_S = 1.0
RETRY_S = 0.1  # after an accept for which there was no file
POLL_S = 0.01
# Linux: bind() leaves the choice of a port to connect(), which knows that the whole of both addresses has to be unique.
IP_BIND_ADDRESS_NO_PORT = 24
LOOPBACK_ADDRESSES = 2**24 - 2**16  # without 127.0.0.0/16

Address = tuple[str, int]


class Peer(NamedTuple):
    """The client of a connection."""

    address: Address
    certificate: Certificate | None


class Termination:
    """Accepts the connections of clients at a socket, ends TLS, and connects to Granian, which is at `granian`."""

    def __init__(
        self,
        listener: socket.socket,
        granian: Address,
        context: ssl.SSLContext,
        certificate_of: Callable[[ssl.SSLObject], Certificate | None],
        connections_max: int,
    ) -> None:
        self._listener = listener
        self._granian = granian
        self._context = context
        self._certificate_of = certificate_of
        self._connections_max = connections_max
        self._peers: dict[tuple[str, str], Peer] = {}  # by the address and port of the connection to Granian
        self._names: dict[ClientConnection, tuple[str, str] | None] = {}  # that is its key; None: there is none yet
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepts = self._has_stopped = False
        self._failures = CountedWarning(log, "TLS handshakes failed", "failed")

    def start(self) -> None:
        """Listen, and accept connections from now on."""
        self._listener.setblocking(False)  # noqa: FBT003 - the name of the standard library
        self._listener.listen(BACKLOG)
        self._resume()

    async def stop(self) -> None:
        """Accept no more, and wait for connections that were accepted to reach Granian, and to have a response."""
        self._pause()
        self._has_stopped = True
        self._listener.close()
        await _wait(lambda: not any(one.is_fresh for one in self._names), FRESH_S)
        for connection in [one for one, name in self._names.items() if name is None]:
            connection.transport.abort()  # it has not shaken hands

    def _resume(self) -> None:
        if not self._accepts and not self._has_stopped:
            self._accepts = True
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _pause(self) -> None:
        if self._accepts:
            self._accepts = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _accept(self) -> None:
        """Accept a connection, unless there are too many: it waits then."""
        if len(self._names) >= self._connections_max:
            self._pause()
            return
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker has it, or nobody any more
            return
        except OSError as error:
            log.warning("no connection can be accepted: %s", error.strerror)
            self._pause()
            asyncio.get_running_loop().call_later(RETRY_S, self._resume)
            return
        client.setblocking(False)  # noqa: FBT003
        connection = ClientConnection(self._context, self)
        self._names[connection] = None
        self._run(self._welcome(connection, client))

    async def _welcome(self, connection: ClientConnection, client: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client)
        except OSError:  # it is gone
            client.close()
            self.lost(connection)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connect(self, connection: ClientConnection, tls: ssl.SSLObject) -> None:
        """Connect to Granian, and then begin to copy."""
        address = connection.transport.get_extra_info("peername")
        peer = Peer(address[:2], self._certificate_of(tls))
        self._run(self._connect(connection, peer))

    async def _connect(self, client: ClientConnection, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        one = socket.socket()
        try:
            one.setblocking(False)  # noqa: FBT003
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                one.bind((loopback_address(next(self._numbers)), 0))
            await loop.sock_connect(one, self._granian)
        except OSError as error:
            one.close()
            log.warning("a client cannot be connected to the server behind TLS: %s", error.strerror)
            client.transport.abort()
            return
        host, port = one.getsockname()
        name = host, str(port)
        if client not in self._names:
            one.close()
            return
        self._names[client], self._peers[name] = name, peer
        _, granian = await loop.create_connection(lambda: GranianConnection(client), sock=one)
        if client not in self._names:
            granian.transport.close()
            return
        client.begin(granian)

    def lost(self, connection: ClientConnection) -> None:
        """Forget a connection, before another one can have its address."""
        name = self._names.pop(connection, None)
        if name is not None:
            del self._peers[name]
        self._resume()

    def refused(self, connection: ClientConnection, error: ssl.SSLError) -> None:
        """Count a failed handshake, and log their number now and then."""
        address = connection.transport.get_extra_info("peername")
        why = getattr(error, "verify_message", "") or error.reason
        self._failures.add(error=why, address=address and address[0])

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests have the client's address and certificate in their scope."""
        peers = self._peers

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, self._ending(send))
                return
            peer = peers.get(scope["client"])
            if peer is None:
                await send({"type": "http.response.start", "status": 421, "headers": [(b"connection", b"close")]})
                await send({"type": "http.response.body"})
                return
            scope["client"], scope["certificate"] = peer
            scope["scheme"] = "https"
            await app(scope, receive, send)

        return serve

    def _ending(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await _wait(lambda: not self._names, inf)  # the parent ends a worker that takes too long
            await send(message)

        return sent


def ends_tls_in_front(settings: Settings) -> bool:
    """Return whether TLS ends here, as the certificates of clients count; else Granian does it at half the cost."""
    return "mtls" in settings.auth


def loopback_address(number: int) -> str:
    """Return an address of the loopback network by its number, from 127.1.0.0 on: the next 16 million are others."""
    place = number % LOOPBACK_ADDRESSES + 2**16
    return f"127.{place >> 16}.{place >> 8 & 255}.{place & 255}"


async def _wait(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait until a condition holds, at the end of a worker, for a bounded time."""
    deadline = time.monotonic() + limit_s
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody sets an event
        await asyncio.sleep(POLL_S)


def termination(
    settings: Settings, listener: socket.socket, granian: Address, connections_max: int
) -> Termination | None:
    """Return what ends TLS in a worker; None if Granian does. Raise UnusableFile, also for the files of Granian's."""
    context = server_context(settings)
    if not ends_tls_in_front(settings):
        return None
    certificate = partial(certificate_of, kind=settings.tls_client_name)
    return Termination(listener, granian, context, certificate, connections_max)
