"""Connections that end in front of Granian: what goes both ways, at any pace, and how they end."""

import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from tests.server.test_tls import TLSService, tls
from tests.support.certificates import Authority
from tests.support.issued import store_user
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until
from tests.support.wire import open_connections, request, responses

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", ["sqlite"], indirect=True)]

JSON = {"content-type": "application/json"}
MANY = [{"name": 250 * "x", "price": 1.0}] * 1000
PAGE = "/items?limit=1000"
PAGES = 24  # more than all buffers between the service and a client hold


class Served(NamedTuple):
    """A service with mTLS, and how its admin connects."""

    service: ServiceProcess
    context: ssl.SSLContext

    @contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """Connect, with a bound on every wait, and with a small buffer for what the service sends."""
        url = httpx.URL(self.service.url)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            connection.settimeout(LIMIT_S)
            connection.connect((url.host, url.port or 0))
            with self.context.wrap_socket(connection, server_hostname="localhost") as secured:
                yield secured

    def fill(self) -> None:
        """Store a page of items, of 400 KB."""
        with self.service.client(verify=self.context) as client:
            assert client.post("/items", json=MANY).status_code == 201


@pytest.fixture
async def served(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Return a service, with the settings that a test was parametrized with."""
    authority = Authority(tmp_path)
    authority.server()
    await store_user(database_url, "admin", "admin")
    settings = tls(authority, **getattr(request, "param", {}))
    with TLSService(database_url, authority, settings) as service:
        yield Served(service, authority.trusting(authority.client(common_name="admin")))


def pages(count: int) -> bytes:
    return count * request("GET", PAGE, {})


async def test_large_bodies_go_both_ways_on_a_connection_that_is_used_again(served: Served) -> None:
    with served.service.client(verify=served.context) as client:
        for _ in range(3):
            created = client.post("/items", json=MANY)
            assert (created.status_code, len(created.json())) == (201, 1000)
            assert len(client.get(PAGE).json()) == 1000
        assert open_connections(served.service) == 1


async def test_requests_may_follow_each_other_and_come_in_pieces(served: Served) -> None:
    body = json.dumps({"name": "lamp", "price": 1}).encode()
    requests = request("POST", "/items", JSON, body) + request("GET", "/items/1", {}) + request("GET", "/livez", {})
    with served.connected() as connection:
        for start in range(0, len(requests), 7):
            connection.sendall(requests[start : start + 7])
        assert [each.status for each in responses(connection, ["POST", "GET", "GET"])] == [201, 200, 200]


async def test_a_session_that_is_resumed_has_its_certificate(served: Served) -> None:
    url = httpx.URL(served.service.url)
    session = None
    for is_resumed in (False, True):
        with (
            socket.create_connection((url.host, url.port or 0), LIMIT_S) as connection,
            served.context.wrap_socket(connection, server_hostname="localhost", session=session) as secured,
        ):
            secured.sendall(request("GET", "/users", {}))
            assert [each.status for each in responses(secured, ["GET"])] == [200]
            assert secured.session_reused == is_resumed
            session = secured.session


async def test_a_client_that_reads_slowly_gets_everything_and_little_is_kept_for_it(served: Served) -> None:
    served.fill()
    [worker] = served.service.workers
    with served.connected() as connection:
        connection.sendall(pages(PAGES))
        wait_until(lambda: is_blocked(served.service))
        before = worker.memory_info().rss
        found = responses(connection, PAGES * ["GET"])
    assert [each.status for each in found] == PAGES * [200]
    assert {len(json.loads(each.body)) for each in found} == {1000}
    assert worker.memory_info().rss - before < 32 * 1024**2


def is_blocked(service: ServiceProcess) -> bool:
    """Return whether a client can take nothing: the kernel holds bytes for it, as many as it may."""
    [worker] = service.workers
    port = httpx.URL(service.url).port
    waiting = Path(f"/proc/{worker.pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in waiting]
    return any(int(row[1].split(":")[1], 16) == port and int(row[4].split(":")[0], 16) > 0 for row in rows)


@pytest.mark.parametrize("served", [{"drain_delay_ms": "0"}], indirect=True)
async def test_a_response_that_is_read_slowly_is_whole_though_the_service_ends(served: Served) -> None:
    served.fill()
    with served.connected() as connection:
        connection.sendall(pages(1))
        wait_until(lambda: is_blocked(served.service))
        served.service.send(signal.SIGTERM)
        wait_until(lambda: "Stopping worker-1" in served.service.log)
        [response] = responses(connection, ["GET"])
        assert (response.status, len(json.loads(response.body))) == (200, 1000)
        assert connection.recv(1) == b""  # a close_notify, and no reset
    assert served.service.wait() == 0, served.service.log
    assert "Killing" not in served.service.log


@pytest.mark.parametrize("served", [{"send_timeout_ms": "500"}], indirect=True)
async def test_a_client_that_takes_nothing_is_closed(served: Served) -> None:
    served.fill()
    with served.connected() as connection:
        connection.sendall(pages(PAGES))
        wait_until(lambda: is_blocked(served.service))
        wait_until(lambda: open_connections(served.service) == 0)


@pytest.mark.parametrize("served", [{"idle_timeout_ms": "300"}], indirect=True)
async def test_an_idle_connection_is_closed(served: Served) -> None:
    with served.connected() as connection:
        connection.sendall(request("GET", "/livez", {}))
        assert [each.status for each in responses(connection, ["GET"])] == [200]
        assert connection.recv(1) == b""
    wait_until(lambda: open_connections(served.service) == 0)


async def test_a_client_that_goes_away_leaves_nothing(served: Served) -> None:
    served.fill()
    [worker] = served.service.workers
    files = worker.num_fds()
    for _ in range(20):
        with served.connected() as connection:
            connection.sendall(pages(PAGES))
        with served.connected():
            pass
        url = httpx.URL(served.service.url)
        with socket.create_connection((url.host, url.port or 0), LIMIT_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")  # which is no TLS
            assert connection.recv(100) == b""
        socket.create_connection((url.host, url.port or 0), LIMIT_S).close()
    wait_until(lambda: open_connections(served.service) == 0)
    wait_until(lambda: worker.num_fds() <= files)
    log = served.service.log
    assert ("traceback" in log, '"level":"error"' in log) == (False, False), log


@pytest.mark.parametrize("served", [{"drain_delay_ms": "0"}], indirect=True)
async def test_a_service_that_ends_waits_for_no_client_that_does_not_shake_hands(served: Served) -> None:
    url = httpx.URL(served.service.url)
    with socket.create_connection((url.host, url.port or 0), LIMIT_S):
        wait_until(lambda: open_connections(served.service) == 1)
        served.service.send(signal.SIGTERM)
        assert served.service.wait() == 0, served.service.log
    assert "Killing" not in served.service.log


async def test_more_connections_than_there_are_files_for_wait(served: Served) -> None:
    [worker] = served.service.workers
    soft, hard = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (3, hard))
    url = httpx.URL(served.service.url)
    with socket.create_connection((url.host, url.port or 0), LIMIT_S) as connection:
        wait_until(lambda: "no connection can be accepted" in served.service.log)
        worker.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
        with served.context.wrap_socket(connection, server_hostname="localhost") as secured:
            secured.sendall(request("GET", "/livez", {}))
            assert [each.status for each in responses(secured, ["GET"])] == [200]
