"""Ports that nobody listens on."""

import secrets
import socket
from contextlib import suppress

HOST = "127.0.0.1"
# Outside the range that systems take clients' ports from, so that nobody takes ours while the server is down.
PORTS = range(15_000, 30_000)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    for port in secrets.SystemRandom().sample(PORTS, 100):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            return port
    raise RuntimeError("no free port")
