"""Clients that are slow, silent, gone or too many: each has its bound, and nobody else notices."""

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from service.settings import Settings
from tests.support.responses import JSON, code, create_item, everything, locked, problem
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until
from tests.support.wire import Response, connected, open_connections, request, responses

BODY_TIMEOUT_S = 0.3
IDLE_TIMEOUT_S = 0.6
LAMP = {"name": "lamp", "price": 1.0, "in_stock": True}
BODY = json.dumps(LAMP).encode()
CHUNKED = {"content-type": JSON, "transfer-encoding": "chunked"}
ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Return a service with little patience."""
    with ServiceProcess(
        f"sqlite:///{tmp_path_factory.mktemp('hurried') / 'items.db'}",
        ITEMSVC_BODY_TIMEOUT_MS="300",
        ITEMSVC_BODY_BYTES_PER_S_MIN="200",
        ITEMSVC_IDLE_TIMEOUT_MS="600",
    ) as service:
        yield service


def post(length: int) -> bytes:
    return request("POST", "/items", {"content-type": JSON, "content-length": length})


def drip(connection: socket.socket, chunks: Iterable[bytes], pause_s: float) -> None:
    """Send chunk after chunk until something comes back."""
    for chunk in chunks:
        connection.sendall(chunk)
        if select.select([connection], [], [], pause_s)[0]:
            return


def response(connection: socket.socket) -> Response:
    return responses(connection, ["POST"])[0]


def is_closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection, on which nothing comes any more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def assert_well(service: ServiceProcess) -> None:
    with service.client() as client:
        lamp = client.post("/items", json=LAMP)
        assert lamp.status_code == 201
        assert client.get(lamp.headers["location"]).json() == lamp.json()
    assert '"level":"error"' not in service.log
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("head", "chunk"),
    [(post(10_000), b" "), (request("POST", "/items", CHUNKED), b"1\r\n \r\n")],
    ids=["length", "chunks"],
)
def test_a_body_that_drips_is_refused_and_its_connection_closed(
    hurried: ServiceProcess, head: bytes, chunk: bytes
) -> None:
    with connected(hurried) as connection:
        started = time.monotonic()
        connection.sendall(head)
        drip(connection, [chunk] * 5000, 0.02)
        refused = response(connection)
        elapsed = time.monotonic() - started
        assert (refused.status, refused.headers["connection"]) == (408, "close")
        body = json.loads(refused.body)
        assert (body["code"], body["retryable"]) == ("request-timeout", True)
        assert BODY_TIMEOUT_S <= elapsed < 5
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)


def test_a_body_that_never_comes_is_refused(hurried: ServiceProcess) -> None:
    with connected(hurried) as connection:
        connection.sendall(post(100))
        assert response(connection).status == 408


def test_a_body_that_comes_steadily_may_take_longer_than_any_timeout(hurried: ServiceProcess) -> None:
    body = BODY.ljust(1000)
    with connected(hurried) as connection:
        started = time.monotonic()
        connection.sendall(post(len(body)))
        drip(connection, (body[start : start + 100] for start in range(0, len(body), 100)), 0.1)
        assert response(connection).status == 201
        assert time.monotonic() - started > max(IDLE_TIMEOUT_S, BODY_TIMEOUT_S)
        connection.sendall(request("GET", "/livez", {}))  # and the connection is kept
        assert response(connection).status == 200


@pytest.mark.parametrize("head", [b"", b"GET /li", b"GET /livez HTTP/1.1\r\nhost: items.test\r\nx-half"])
@pytest.mark.parametrize("served_before", [False, True])
def test_a_connection_that_waits_for_a_head_is_closed(
    hurried: ServiceProcess, head: bytes, served_before: bool
) -> None:
    with connected(hurried) as connection:
        if served_before:
            connection.sendall(request("GET", "/livez", {}))
            assert response(connection).status == 200
        started = time.monotonic()
        connection.sendall(head)
        assert is_closed(connection)
        assert IDLE_TIMEOUT_S * 0.9 <= time.monotonic() - started < 5


def test_a_head_that_drips_does_not_keep_its_connection(hurried: ServiceProcess) -> None:
    with connected(hurried) as connection:
        started = time.monotonic()
        with suppress(ConnectionError):
            drip(connection, [b"GET /livez HTTP/1.1\r\n", *[b"x-a: b\r\n"] * 90], 0.05)
        assert is_closed(connection)
        assert time.monotonic() - started < 4


@pytest.mark.parametrize("end", ["closed", "half-closed", "reset"])
def test_a_body_that_breaks_off_is_none(hurried: ServiceProcess, end: str) -> None:
    with hurried.client() as client:
        before = client.get("/items?count=true&limit=1").headers["x-total-count"]
        for sent in (
            request("POST", "/items", CHUNKED) + b"%x\r\n%s\r\n" % (len(BODY), BODY),  # the whole item, but no end
            post(1000) + BODY,
            post(1000),
        ):
            with connected(hurried) as connection:
                connection.sendall(sent)
                if end == "half-closed":
                    connection.shutdown(socket.SHUT_WR)
                    assert b"201" not in connection.recv(1000)
                if end == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until(lambda: open_connections(hurried) <= 1)
        assert client.get("/items?count=true&limit=1").headers["x-total-count"] == before
    assert_well(hurried)


def test_a_body_in_chunks_that_are_none_is_refused(hurried: ServiceProcess) -> None:
    with connected(hurried) as connection:
        connection.sendall(request("POST", "/items", CHUNKED) + b"zz\r\n")
        refused = response(connection)
        assert (refused.status, json.loads(refused.body)["code"]) == (400, "malformed-body")


@ON_SQLITE
def test_requests_whose_clients_went_away_are_not_served_for_ever(database_url: str) -> None:
    with ServiceProcess(database_url, ITEMSVC_REQUESTS_MAX="8") as service:
        for _ in range(100):
            with connected(service) as connection:
                connection.sendall(post(1000) + BODY)
        wait_until(lambda: open_connections(service) == 0)
        with service.client() as client:
            wait_until(lambda: client.get("/items").is_success)
            with ExitStack() as held:
                for _ in range(7):
                    held.enter_context(connected(service)).sendall(post(1000))
                assert all(client.get("/items").is_success for _ in range(20))
        assert_well(service)


ENDLESS = 50_000_000


@pytest.mark.parametrize(
    ("head", "frame"),
    [(post(ENDLESS), b"%s"), (request("POST", "/items", CHUNKED), b"10000\r\n%s\r\n")],
    ids=["length", "chunks"],
)
def test_a_body_that_is_too_large_has_its_response_also_if_its_client_goes_on_sending(
    hurried: ServiceProcess, head: bytes, frame: bytes
) -> None:
    chunk = frame % (b" " * 0x10000)
    with connected(hurried) as connection:
        connection.sendall(head)
        for _ in range(200):  # 13 MB: more than any buffer on the way
            connection.sendall(chunk)
        refused = response(connection)
        assert (refused.status, refused.headers["connection"]) == (413, "close")
        assert json.loads(refused.body)["code"] == "body-too-large"
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)


@pytest.mark.parametrize("asks", [False, True])
def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(
    hurried: ServiceProcess, asks: bool
) -> None:
    headers = {"content-type": JSON, "content-length": ENDLESS, **({"expect": "100-continue"} if asks else {})}
    with connected(hurried) as connection:
        connection.sendall(request("POST", "/items", headers))
        assert response(connection).status == 413


def test_a_client_that_never_stops_sending_is_cut_off(hurried: ServiceProcess) -> None:
    with connected(hurried) as connection:
        connection.sendall(post(ENDLESS))
        assert response(connection).status == 413
        with pytest.raises(ConnectionError):
            drip_on(connection)


def drip_on(connection: socket.socket) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        connection.sendall(b" ")
        select.select([], [], [], 0.02)


@pytest.mark.parametrize(
    ("head", "statuses"),
    [
        (request("GET", "/livez", {"x-large": "x" * 2**20}), {431}),
        (request("GET", "/livez", {f"x-{n}": "y" for n in range(10_000)}), {431}),
        (request("GET", "/livez", {f"x-{n}": "y" for n in range(110)}), {431}),
        (request("GET", "/livez", {f"x-{n}": "y" for n in range(90)}), {200}),
        (request("GET", "/" + "x" * 100 * 1024, {}), {414, 431}),
        (request("GET", "/items?name_prefix=" + "x" * 60_000, {}), {400}),
        (request("GET", "/items?ids=" + ",".join(str(10**18 + n) for n in range(1000)), {}), {200}),
    ],
    ids=["large", "10,000", "110", "90", "100 KiB", "60,000", "ids"],
)
def test_a_head_has_a_bound(hurried: ServiceProcess, head: bytes, statuses: set[int]) -> None:
    with connected(hurried) as connection:
        with suppress(ConnectionError):  # it may be refused before it is sent
            connection.sendall(head)
        try:
            assert response(connection).status in statuses
        except ConnectionResetError:
            assert statuses != {200}
    assert_well(hurried)


@ON_SQLITE
def test_hundreds_of_silent_connections_hinder_nobody_and_leave_nothing(database_url: str) -> None:
    half = b"x" * 32 * 1024
    with ServiceProcess(database_url) as service, service.client() as client:
        assert_well(service)
        before = memory_bytes(service)
        with ExitStack() as silent:
            for number in range(400):
                connection = silent.enter_context(connected(service))
                if number % 4 == 0:
                    connection.sendall(post(10**6) + half if number % 8 else b"GET /livez HTTP/1.1\r\nx-half: " + half)
            for _ in range(100):
                lamp = client.post("/items", json=LAMP)
                assert lamp.status_code == 201
                assert client.get(lamp.headers["location"]).is_success
            assert open_connections(service) >= 400
            assert memory_bytes(service) - before < 60 * 2**20
        wait_until(lambda: open_connections(service) <= 1)
        assert_well(service)
        assert memory_bytes(service) - before < 30 * 2**20


def memory_bytes(service: ServiceProcess) -> int:
    return sum(worker.memory_info().rss for worker in service.workers)


def test_beyond_the_requests_that_may_be_served_only_probes_are(database_url: str, backend: str) -> None:
    statuses: list[int] = []

    def write() -> None:
        with service.client() as client:
            statuses.append(client.post("/items", json=LAMP).status_code)

    threads = [threading.Thread(target=write) for _ in range(4)]
    patient = ServiceProcess(
        database_url,
        ITEMSVC_REQUESTS_MAX="4",
        ITEMSVC_QUEUE_WAIT_MS_MAX="60000",
        ITEMSVC_STATEMENT_TIMEOUT_MS="60000",
        ITEMSVC_REQUEST_TIMEOUT_MS="60000",
    )
    with patient as service, service.client() as client:
        with locked(database_url, backend):
            for thread in threads:
                thread.start()
            wait_until(lambda: client.get("/openapi.json").status_code == 503)
            for method, path in (("GET", "/items/1"), ("POST", "/items"), ("GET", "/nowhere"), ("GET", "/livez/x")):
                refused = client.request(method, path)
                assert code(refused) == (503, "overloaded")
                assert refused.elapsed.total_seconds() < 1
            for path in ("/livez", "/readyz"):
                assert client.get(path).status_code == 200
            assert not statuses
        for thread in threads:
            thread.join(LIMIT_S)
        assert statuses == [201] * 4
        assert client.get("/items/1").status_code == 200
        assert service.log.count("requests refused") <= 1 + LIMIT_S
        assert_well(service)


async def stalled() -> AsyncIterator[bytes]:
    yield BODY
    await asyncio.Event().wait()


@ON_SQLITE
@pytest.mark.parametrize("settings", [{"body_timeout_ms": 50}], indirect=True)
async def test_a_body_that_is_too_slow_is_a_problem_worth_another_try(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for method, url in (("POST", "/items"), ("PATCH", "/items"), ("PUT", "/items/1"), ("PATCH", "/items/1")):
        response = await client.request(method, url, content=stalled(), headers={"content-type": JSON})
        assert code(response) == (408, "request-timeout")
        assert problem(response)["retryable"]
    assert await everything(client) == [item]


@ON_SQLITE
@pytest.mark.parametrize("settings", [{"body_timeout_ms": 200}], indirect=True)
async def test_each_body_has_its_own_time(client: httpx.AsyncClient) -> None:
    async def send() -> httpx.Response:
        return await client.post("/items", content=stalled(), headers={"content-type": JSON})

    async with asyncio.timeout(LIMIT_S):
        first = asyncio.create_task(send())
        await asyncio.wait([first], timeout=0.1)
        started = time.monotonic()
        assert (await send()).status_code == 408
        assert time.monotonic() - started >= 0.19
        assert (await first).status_code == 408


@ON_SQLITE
async def test_a_reader_that_is_ended_by_another_is_not_late(client: httpx.AsyncClient, settings: Settings) -> None:
    assert settings.body_timeout_ms > 1000
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.post("/items", content=stalled(), headers={"content-type": JSON})
    assert await everything(client) == []
