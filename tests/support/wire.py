"""What goes over a socket, byte by byte: requests as they are written down, and their responses as they are read."""

import socket
from collections.abc import Mapping, Sequence
from http.client import HTTPMessage, parse_headers
from typing import Any, NamedTuple

import httpx
import psutil

from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S


class Response(NamedTuple):
    """A response as it was on the wire."""

    status: int
    headers: HTTPMessage
    body: bytes


def connected(service: ServiceProcess) -> socket.socket:
    """Connect to a service, with a bound on every wait."""
    url = httpx.URL(service.url)
    return socket.create_connection((url.host, url.port or 0), LIMIT_S)


def responses(connection: socket.socket, methods: Sequence[str]) -> list[Response]:
    """Read the responses to requests with these methods, one after the other from one stream."""
    found = []
    with connection.makefile("rb") as stream:
        for method in methods:
            status = int(stream.readline().split()[1])
            headers = parse_headers(stream)
            length = 0 if method == "HEAD" else int(headers["content-length"])
            found.append(Response(status, headers, stream.read(length)))
    return found


def request(method: str, path: str, headers: Mapping[str, object], body: bytes = b"") -> bytes:
    """Write a request down."""
    fields = {"host": "items.test", **headers, **({"content-length": len(body)} if body else {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def open_connections(service: ServiceProcess) -> int:
    """Count the connections that a service has, of all its workers."""
    port = httpx.URL(service.url).port
    found: list[Any] = [one for worker in service.workers for one in worker.net_connections("tcp")]
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in found)
