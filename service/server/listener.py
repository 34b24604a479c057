"""The sockets that connections wait at."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

BACKLOG = 2048
SHARED_SEND_TIMEOUT_MS = 10_000
# Whether each worker has a socket of its own, which it listens at when it serves (granian 2.8.7: there alone).
LISTENS_LATER = sys.platform == "linux"


def address(host: str, port: int) -> tuple[str, int]:
    """Return the address and port to listen on: a name is resolved, and port 0 becomes a free one.

    Raises OSError, also if another process listens there by SO_REUSEPORT, as `listeners` do: it would get connections.
    """
    family, kind, protocol, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(found)
        free: tuple[str, int] = probe.getsockname()[:2]
        return free


def listeners(host: str, port: int, count: int, send_timeout_ms: int) -> list[socket.socket]:
    """Return a socket for each worker, for as long as the service runs: what waits in it outlives the worker.

    A worker of Granian's opens a socket of its own, and its end loses what waits there. With one socket for all, as
    Granian has it elsewhere, the worker that wakes up first gets everything: 64 of 64 connections at once. Linux
    spreads connections evenly over all that listen at the address; where a system does not, the workers share one.
    """
    if not LISTENS_LATER:
        return [_listener(host, port, send_timeout_ms)] * count
    return [_listener(host, port, send_timeout_ms) for _ in range(count)]


def reopened(listener: socket.socket) -> socket.socket:
    """Close a listening socket, which resets what waits there, and return one at the same address.

    A socket that workers share is returned as it is.
    """
    if not LISTENS_LATER:
        return listener
    host, port = listener.getsockname()[:2]
    send_timeout_ms = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    listener.close()
    return _listener(host, port, send_timeout_ms)


def deafen(inode: int) -> None:
    """Stop accepting at a socket in this process, by its inode; it goes on listening for the others that have it.

    Whatever accepts there finds a socket in its place that nobody knows the name of. Only Linux says which file
    descriptors are those of the socket; elsewhere nothing changes.
    """
    if not LISTENS_LATER:
        return
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)  # noqa: FBT003 - the name of the standard library
        deaf.bind("")  # Linux chooses a name, which is in no folder
        deaf.listen()
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):  # that of the folder itself
                if os.fstat(descriptor).st_ino == inode:
                    os.dup2(deaf.fileno(), descriptor, inheritable=False)


def shared_listener(host: str, port: int) -> socket.socket:
    """Return a listening socket at which several processes accept, and none of them waits."""
    one = _listener(host, port, SHARED_SEND_TIMEOUT_MS)
    one.setblocking(False)  # noqa: FBT003 - the name of the standard library
    one.listen(BACKLOG)
    return one


def loopback_listener() -> socket.socket:
    """Return a socket that listens at a free port of the loopback address."""
    one = socket.socket()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which its connections inherit
    one.bind(("127.0.0.1", 0))
    one.listen(BACKLOG)
    return one


def _listener(host: str, port: int, send_timeout_ms: int) -> socket.socket:
    is_ipv6 = ":" in host
    one = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if is_ipv6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which its connections inherit
    if sys.platform == "linux":  # Granian writes without a limit of time; so does this, where nothing is taken
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, send_timeout_ms)
    one.bind((host, port))
    if not LISTENS_LATER:
        one.listen(BACKLOG)
    return one
