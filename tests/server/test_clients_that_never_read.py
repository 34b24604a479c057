"""Clients that send requests and never read the responses: each is cut off, and no stop waits for it."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until
from tests.support.wire import open_connections, request

LARGE, SMALL = "/items?limit=1000", "/items?limit=10"
LONG_ITEM = {"name": "\U0001f4a1" * 255, "price": 1.0}


def never_reads(service: ServiceProcess) -> socket.socket:
    """Return a connection with twenty lists asked for, of which it will take a few KiB."""
    url, connection = httpx.URL(service.url), socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port or 0))
    connection.sendall(request("GET", LARGE, {}) * 20)
    return connection


@contextmanager
def serving(tmp_path: Path, **settings: str) -> Iterator[ServiceProcess]:
    """Start a service that has a large page of items."""
    with ServiceProcess(f"sqlite:///{tmp_path / 'items.db'}", workers=1, **settings) as service:
        with service.client() as client:
            for _ in range(2):
                assert client.post("/items", json=[LONG_ITEM] * 500).status_code == 201
        yield service


def test_a_client_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    with serving(tmp_path, ITEMSVC_SEND_TIMEOUT_MS="500") as service, ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(never_reads(service))
        wait_until(lambda: open_connections(service) > 10)
        wait_until(lambda: open_connections(service) == 0)
        with service.client() as client:
            assert len(client.get(LARGE).json()) == 1000
        assert '"level":"error"' not in service.log


def test_a_stop_waits_for_a_client_that_never_reads_no_longer_than_it_may_take(tmp_path: Path) -> None:
    settings = {"ITEMSVC_SEND_TIMEOUT_MS": "1000", "ITEMSVC_SHUTDOWN_TIMEOUT_S": "600"}
    with serving(tmp_path, **settings) as service, never_reads(service), service.client() as client:
        wait_until(lambda: open_connections(service) == 1)
        assert client.get(SMALL).is_success
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log


def test_clients_that_read_slowly_have_all_of_a_response(tmp_path: Path) -> None:
    with serving(tmp_path, ITEMSVC_SEND_TIMEOUT_MS="2000") as service, never_reads(service) as connection:
        received = b""
        while received.count(b"HTTP/1.1 200") < 3:
            received += connection.recv(4096)
        assert received.count(b'"name"') > 1000
