"""The service as a process: what it speaks on the wire, how it ends, and what survives a kill."""

import asyncio
import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from sqlalchemy import make_url

from db.engines.engine import open_database
from tests.support.responses import locked
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until
from tests.support.wire import connected, open_connections, request, responses

LAMP = {"name": "lamp", "price": 1.0, "in_stock": True}
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'items-service' AND pid <> pg_backend_pid()
"""


@pytest.fixture
def workers(backend: str) -> int:
    return 2 if backend == "postgresql" else 1


@pytest.fixture
def service(database_url: str, workers: int) -> Iterator[ServiceProcess]:
    with ServiceProcess(database_url, workers=workers) as service:
        yield service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Return a service for tests that want nothing of its database."""
    with ServiceProcess(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'items.db'}") as service:
        yield service


def test_every_path_responds(service: ServiceProcess) -> None:
    with service.client() as client:
        assert client.get("/livez").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {"status": "ready"}
        assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
        lamp = client.post("/items", json=LAMP)
        assert (lamp.status_code, lamp.headers["location"]) == (201, f"items/{lamp.json()['id']}")
        here = f"/{lamp.headers['location']}"
        assert client.get(here).json() == lamp.json()
        packed = client.get(here, headers={"accept": "application/msgpack"})
        assert msgspec.msgpack.decode(packed.content)["name"] == "lamp"
        assert client.put(here, json={**LAMP, "price": 2}).json()["version"] == 2
        assert client.patch(here, json={"in_stock": False}, headers={"if-match": '"2-json"'}).json()["version"] == 3
        added = client.post("/items", json=[LAMP] * 3).json()
        patches = [{"id": item["id"], "price": 7} for item in added]
        assert [item["price"] for item in client.patch("/items", json=patches).json()] == [7, 7, 7]
        assert len(client.get("/items?price_min=5&order=-id&count=true").json()) == 3
        ids = ",".join(str(item["id"]) for item in added)
        assert client.delete(f"/items?ids={ids}").json() == [item["id"] for item in added]
        assert client.delete(here).status_code == 204
        assert client.get(here).json()["code"] == "item-not-found"
        assert client.get("/nowhere").json()["code"] == "no-such-path"
        assert client.post("/livez").headers["allow"] == "GET, HEAD"


def test_a_start_on_postgresql_logs_how_many_connections_it_has_to_allow(service: ServiceProcess, backend: str) -> None:
    assert service.log.count("2 workers x (6 for batches + 4 for transactions) = 20, and 10") == (
        backend == "postgresql"
    )


def test_every_response_has_the_name_of_the_service_and_may_not_be_sniffed(shared: ServiceProcess) -> None:
    requests: list[tuple[str, str, dict[str, str], int]] = [
        ("GET", "/items", {}, 200),
        ("HEAD", "/items", {}, 200),
        ("POST", "/items", {"content-length": "0"}, 415),
        ("GET", "/%3Cscript%3E", {}, 404),
        ("DELETE", "/items?ids=999999", {}, 200),
        ("GET", "/items?%3Cscript%3E=1", {}, 400),
        ("OPTIONS", "/items", {}, 405),
        ("GET", "/livez", {}, 200),
        ("GET", "/items", {"accept": "a," * 1000}, 431),
    ]
    with connected(shared) as connection:
        connection.sendall(b"".join(request(method, path, headers) for method, path, headers, _ in requests))
        found = responses(connection, [method for method, *_ in requests])
    assert [response.status for response in found] == [status for *_, status in requests]
    for response in found:
        assert response.headers.get_all("server") == ["items-service"]
        assert response.headers.get_all("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/3.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 2**17 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
    ],
    ids=["nonsense", "version", "length", "field", "fields", "target"],
)
def test_a_response_of_the_server_itself_does_not_name_it_and_has_nothing_to_sniff_or_store(
    shared: ServiceProcess, head: bytes, status: bytes
) -> None:
    with connected(shared) as connection:
        connection.sendall(head)
        received = b"".join(iter(lambda: connection.recv(65536), b"")).lower()
    start, *fields = received.split(b"\r\n")
    assert start.startswith(b"http/1.1 " + status)
    names = {field.partition(b":")[0] for field in fields}
    assert (names, b"content-length: 0" in fields) == ({b"connection", b"content-length", b"date", b""}, True)


def test_pipelined_requests_have_their_responses_in_their_order(shared: ServiceProcess) -> None:
    body = json.dumps(LAMP).encode()
    requests = [
        request("POST", "/items", {"content-type": "application/json", "x-request-id": n}, body)
        if n % 3
        else request("GET", "/nowhere" if n % 2 else "/livez", {"x-request-id": n})
        for n in range(60)
    ]
    with connected(shared) as connection:
        connection.sendall(b"".join(requests))
        found = responses(connection, ["GET"] * 60)
    assert [response.headers["x-request-id"] for response in found] == [str(n) for n in range(60)]
    assert [response.status for response in found] == [200, 201, 201, 404, 201, 201] * 10
    assert all(json.loads(response.body) for response in found)


def test_a_body_in_chunks_of_any_size_is_read_whole(shared: ServiceProcess) -> None:
    body = json.dumps({**LAMP, "name": "€" * 100}, ensure_ascii=False).encode()
    head = request("POST", "/items", {"content-type": "application/json", "transfer-encoding": "chunked"})
    with connected(shared) as connection:
        for size in (1, 7, len(body)):
            chunks = [body[start : start + size] for start in range(0, len(body), size)]
            connection.sendall(head)
            for chunk in [*chunks, b""]:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            [response] = responses(connection, ["POST"])
            assert (response.status, json.loads(response.body)["name"]) == (201, "€" * 100)


def test_head_has_a_response_without_a_body_and_with_the_headers_of_get(shared: ServiceProcess) -> None:
    with shared.client() as client:
        here = f"/{client.post('/items', json=LAMP).headers['location']}"
    for path in (here, "/livez", "/items?limit=1", "/items/99999", "/nowhere"):
        sent = [request(method, path, {"x-request-id": "same"}) for method in ("HEAD", "GET")]
        with connected(shared) as connection:
            connection.sendall(b"".join(sent))
            head, get = responses(connection, ["HEAD", "GET"])
        del head.headers["date"], get.headers["date"]
        assert (head.status, head.headers.items(), head.body) == (get.status, get.headers.items(), b"")
        assert int(head.headers["content-length"]) == len(get.body) > 0


def test_a_connection_stays_open_for_request_after_request(shared: ServiceProcess) -> None:
    with connected(shared) as connection:
        for n in range(50):
            connection.sendall(request("GET", ("/livez", "/items/99999", "/nowhere")[n % 3], {}))
            assert responses(connection, ["GET"])[0].status in {200, 404}


class Writers:
    """Clients that write as fast as responses come, and remember those."""

    def __init__(self, service: ServiceProcess, count: int = 8, *, with_keys: bool = False) -> None:
        self.written: list[int] = []
        self.refused: list[int] = []
        self._with_keys = with_keys
        self._service = service
        self._threads = [threading.Thread(target=self._write) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        with self._service.client() as client:
            while True:
                headers = {"idempotency-key": f'"{uuid4()}"'} if self._with_keys else {}
                try:
                    response = client.post("/items", json=LAMP, headers=headers)
                except httpx.TransportError:  # nobody is there any more
                    return
                if response.status_code == 201:
                    self.written.append(response.json()["id"])
                else:
                    self.refused.append(response.status_code)

    def join(self) -> None:
        """Wait until each of them has found nobody there."""
        for thread in self._threads:
            thread.join(LIMIT_S)


async def scalars(database_url: str, sql: str) -> list[Any]:
    """Return the first column, of the database itself."""
    database = open_database(database_url)
    async with database.engine.connect() as connection:
        found = list((await connection.exec_driver_sql(sql)).scalars())
    await database.close()
    return found


def ids(database_url: str) -> set[int]:
    """Return all there is."""
    return set(asyncio.run(scalars(database_url, "SELECT id FROM items")))


def sessions(database_url: str) -> int:
    """Count the connections to PostgreSQL that the service has."""
    [count] = asyncio.run(scalars(database_url, SESSIONS))
    return int(count)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_no_more_connections_are_held_than_the_start_logs(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2, ITEMSVC_DRAIN_DELAY_MS="500") as service:
        before, held = {worker.pid for worker in service.workers}, [sessions(database_url)]
        writers = Writers(service, with_keys=True)  # each of these writes is a transaction

        def are_replaced() -> bool:
            held.append(sessions(database_url))
            pids = {worker.pid for worker in service.workers}
            return len(pids) == 2 and not pids & before

        wait_until(lambda: len(writers.written) > 50)
        service.send(signal.SIGHUP)
        wait_until(are_replaced)
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log
        writers.join()
    assert 2 * 6 <= held[0] <= 20
    assert 3 * 6 <= max(held) <= 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_under_load_ends_cleanly_and_loses_no_write(
    service: ServiceProcess, database_url: str, number: signal.Signals
) -> None:
    writers = Writers(service)
    wait_until(lambda: len(writers.written) > 50)
    service.send(number, group=number == signal.SIGINT)  # Ctrl-C reaches the workers, too
    assert service.wait() == 0, service.log
    writers.join()
    assert "Traceback" not in service.log
    assert '"level":"error"' not in service.log
    assert not writers.refused
    assert set(writers.written) <= ids(database_url)


def test_a_stop_waits_for_requests_that_are_in_flight(service: ServiceProcess, database_url: str, backend: str) -> None:
    statuses: list[int] = []

    def write() -> None:
        with service.client() as client:
            statuses.append(client.post("/items", json=LAMP).status_code)

    threads = [threading.Thread(target=write) for _ in range(10)]
    with locked(database_url, backend):
        for thread in threads:
            thread.start()
        wait_until(lambda: open_connections(service) >= 10)
        with service.client() as client:
            assert client.get("/livez").is_success
        service.send(signal.SIGTERM)
        wait_until(lambda: service.log.count("Stopping worker-") == len(service.workers) > 0)
        assert not statuses
    assert service.wait() == 0, service.log
    for thread in threads:
        thread.join(LIMIT_S)
    assert statuses == [201] * 10


def test_a_worker_that_is_killed_is_replaced_and_what_it_acknowledged_is_there(
    service: ServiceProcess, database_url: str, workers: int
) -> None:
    writers = Writers(service)
    wait_until(lambda: len(writers.written) > 50)
    victim = service.workers[0]
    victim.kill()
    wait_until(lambda: len({worker.pid for worker in service.workers} - {victim.pid}) == workers)
    wait_until(lambda: service.log.count("Started worker-") == workers + 1 and service.is_ready())
    with service.client() as client:
        writers.written.append(client.post("/items", json=LAMP).json()["id"])
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log
    writers.join()
    assert set(writers.written) <= ids(database_url)


def test_when_everything_is_killed_no_acknowledged_write_is_lost(
    service: ServiceProcess, database_url: str, backend: str
) -> None:
    writers = Writers(service)
    wait_until(lambda: len(writers.written) > 100)
    service.kill()
    writers.join()
    assert set(writers.written) <= ids(database_url)
    if backend == "sqlite":
        with closing(sqlite3.connect(Path(str(make_url(database_url).database)))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
