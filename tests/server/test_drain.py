"""How workers end: by a signal, replaced or killed, and what their clients notice of it."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest

from tests.faults.balancer import Balancer, Instance
from tests.support.responses import locked
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until
from tests.support.wire import open_connections, request

LAMP = {"name": "lamp", "price": 1.0}
# Enough for everybody to notice, on a machine that is busy.
DELAY_MS = "1000"
AMPLE_MS = "3000"  # and to ask several times meanwhile
LONG_MS = "600000"
ANEW = httpx.Limits(max_keepalive_connections=0)  # a connection for each request


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    """Return a service with the settings that a test was parametrized with, on a database in a folder of its own."""
    folder = tmp_path / "items"
    folder.mkdir()
    settings = {"workers": 2, **getattr(request, "param", {})}
    with ServiceProcess(f"sqlite:///{folder / 'items.db'}", **settings) as service:
        yield service


def drains(**settings: str) -> pytest.MarkDecorator:
    """Set up the service of a test."""
    return pytest.mark.parametrize(
        "service", [{f"ITEMSVC_{name.upper()}": value for name, value in settings.items()}], indirect=True
    )


def stopping(service: ServiceProcess) -> bool:
    """Ask every worker, by many connections, whether it is known there that the service stops."""
    with service.client(limits=ANEW) as client:
        return all(client.get("/readyz").status_code == 503 for _ in range(20))


@contextmanager
def connected(service: ServiceProcess) -> Iterator[socket.socket]:
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 0), LIMIT_S) as connection:
        yield connection


def pids(service: ServiceProcess) -> set[int]:
    return {worker.pid for worker in service.workers}


@drains(drain_delay_ms=AMPLE_MS)
@pytest.mark.parametrize("group", [False, True])
def test_a_service_that_is_to_stop_sends_clients_away_before_it_stops(service: ServiceProcess, group: bool) -> None:
    began = time.monotonic()
    service.send(signal.SIGTERM, group=group)
    wait_until(lambda: stopping(service))
    with service.client() as client:
        readiness = client.get("/readyz")
        assert (readiness.json()["code"], readiness.json()["detail"]) == ("not-ready", "The service is stopping.")
        responses = [
            client.get("/livez"),
            client.post("/items", json=LAMP),
            client.get("/items/99"),
            client.get("/nowhere"),
            readiness,
        ]
    assert [response.status_code for response in responses] == [200, 201, 404, 404, 503]
    assert {response.headers["connection"] for response in responses} == {"close"}
    assert service.wait() == 0, service.log
    assert time.monotonic() - began > int(AMPLE_MS) / 1000
    assert '"level":"error"' not in service.log


@drains(drain_delay_ms=AMPLE_MS)
def test_an_open_connection_is_closed_behind_its_next_response(service: ServiceProcess) -> None:
    with connected(service) as connection, connection.makefile("rb") as stream:
        request = b"GET /livez HTTP/1.1\r\nhost: items.test\r\n\r\n"
        connection.sendall(request)
        assert b"200" in stream.readline()
        service.send(signal.SIGTERM)
        wait_until(lambda: stopping(service))
        connection.sendall(request)
        rest = stream.read()  # to the end, which is the server's
        assert (rest.count(b"HTTP/1.1 200"), rest.count(b"connection: close\r\n")) == (1, 1)
        assert service.process.poll() is None
    assert service.wait() == 0, service.log


@drains(drain_delay_ms=LONG_MS)
def test_ctrl_c_does_not_wait_for_clients_to_turn_away(service: ServiceProcess) -> None:
    service.send(signal.SIGINT, group=True)
    assert service.wait() == 0, service.log


@drains(drain_delay_ms=LONG_MS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_everything_at_once(service: ServiceProcess, number: signal.Signals) -> None:
    workers = service.workers
    service.send(signal.SIGTERM)
    wait_until(lambda: stopping(service))

    def is_over() -> bool:
        service.send(number)  # again and again, as within a second it is the first
        return service.process.poll() is not None

    wait_until(is_over)
    assert service.wait() == 1
    wait_until(lambda: not any(worker.is_running() for worker in workers))


@pytest.mark.parametrize("service", [{"workers": 1, "ITEMSVC_DRAIN_DELAY_MS": "0"}], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_is_told_twice_at_once_is_one_and_answers_what_is_in_flight(
    service: ServiceProcess, tmp_path: Path, number: signal.Signals
) -> None:
    body, url = json.dumps(LAMP).encode(), f"sqlite+aiosqlite:///{tmp_path / 'items' / 'items.db'}"
    with connected(service) as connection, connection.makefile("rb") as stream:
        with locked(url, "sqlite"):
            connection.sendall(request("POST", "/items", {"content-type": "application/json"}, body))
            wait_until(lambda: open_connections(service) == 1)
            with service.client() as client:
                assert client.get("/livez").is_success
            service.send(number, group=True)
            wait_until(lambda: "Shutting down" in service.log)
            service.send(number)  # as make does, which is in the group
            wait_until(lambda: "Stopping worker-" in service.log)
        assert b" 201 " in stream.readline()
    assert service.wait() == 0, service.log


@drains(drain_delay_ms=AMPLE_MS)
def test_a_drain_goes_on_when_a_worker_dies(service: ServiceProcess) -> None:
    service.send(signal.SIGTERM)
    wait_until(lambda: stopping(service))
    victim = service.workers[0]
    victim.kill()
    wait_until(lambda: "Unexpected exit" in service.log)
    wait_until(lambda: len(listeners(service)) == 1)
    with service.client() as client:
        for _ in range(20):
            assert client.get("/livez").is_success
    assert service.wait() == 1, service.log


def listeners(service: ServiceProcess) -> set[int]:
    """Return the sockets that connections wait at."""
    found: list[Any] = psutil.Process(service.process.pid).net_connections("tcp")
    return {one.fd for one in found if one.status == psutil.CONN_LISTEN}


@drains(drain_delay_ms=LONG_MS)
def test_when_its_parent_is_killed_a_worker_ends_by_itself(service: ServiceProcess) -> None:
    workers = service.workers
    service.process.kill()
    try:
        wait_until(lambda: not any(worker.is_running() for worker in workers))
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()


@pytest.mark.parametrize("hanging", [0, 1])
def test_when_its_parent_is_killed_a_worker_ends_although_another_one_hangs(
    service: ServiceProcess, hanging: int
) -> None:
    workers = service.workers
    workers[hanging].suspend()
    service.process.kill()
    try:
        wait_until(lambda: not workers[1 - hanging].is_running())
    finally:
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()


class Clients:
    """Clients that ask without a pause, each over a connection that it uses as long as it may."""

    def __init__(self, url: str, probe: str = "/readyz", count: int = 4, **options: Any) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._url = url
        self._probe = probe
        self._options = options  # of httpx
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def _call(self) -> None:
        with httpx.Client(base_url=self._url, timeout=LIMIT_S, **self._options) as client:
            here = client.post("/items", json=LAMP).headers["location"]
            while not self._is_over.is_set():
                for request in ("GET", here), ("POST", "/items"), ("GET", self._probe):
                    self._ask(client, *request)

    def _ask(self, client: httpx.Client, method: str, path: str) -> None:
        try:
            response = client.request(method, path, json=LAMP if method == "POST" else None)
            if not response.is_success:
                self.failures.append(response.text)
        except httpx.TransportError as error:
            self.failures.append(repr(error))
        self.served += 1


def replaced(service: ServiceProcess, before: set[int]) -> bool:
    """Whether the workers are others."""
    return len(pids(service)) == len(before) and not pids(service) & before


class Strangers(Clients):
    """Clients that ask once over each connection, as fast as they can."""

    def _call(self) -> None:
        url = httpx.URL(self._url)
        while not self._is_over.is_set():
            connection = http.client.HTTPConnection(url.host, url.port, timeout=LIMIT_S)
            try:
                connection.request("GET", "/livez")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            connection.close()
            self.served += 1


@drains(drain_delay_ms=DELAY_MS)
def test_no_new_connection_is_lost_when_workers_are_replaced(service: ServiceProcess) -> None:
    with Strangers(service.url, count=6) as clients:
        for _ in range(3):
            before = pids(service)
            service.send(signal.SIGHUP)
            wait_until(partial(replaced, service, before))
    assert clients.served > 100
    assert clients.failures == []


@drains(drain_delay_ms=DELAY_MS)
def test_no_request_is_lost_when_workers_are_replaced(service: ServiceProcess) -> None:
    before = pids(service)
    with Clients(service.url) as clients:
        wait_until(lambda: clients.served > 50)
        service.send(signal.SIGHUP)
        wait_until(lambda: replaced(service, before))
        enough = clients.served + 50
        wait_until(lambda: clients.served > enough)
    assert not clients.failures
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log
    assert '"level":"error"' not in service.log


@drains(worker_lifetime_s="1", drain_delay_ms=DELAY_MS)
def test_no_request_is_lost_when_workers_have_grown_old(service: ServiceProcess) -> None:
    before = pids(service)
    with Clients(service.url) as clients:
        wait_until(lambda: replaced(service, before))
    assert not clients.failures


@drains(worker_memory_mib_max="1", drain_delay_ms=DELAY_MS)
def test_no_request_is_lost_when_workers_have_grown_large(service: ServiceProcess) -> None:
    before = pids(service)
    with Clients(service.url) as clients:
        wait_until(lambda: replaced(service, before), 2 * LIMIT_S)
    assert not clients.failures


@pytest.mark.parametrize("service", [{"workers": 1, "ITEMSVC_DRAIN_DELAY_MS": LONG_MS}], indirect=True)
def test_a_worker_that_is_replaced_lets_its_connections_go_and_a_stop_is_heard_meanwhile(
    service: ServiceProcess,
) -> None:
    with service.client() as client, service.client(limits=ANEW) as prober:
        assert "connection" not in client.get("/livez").headers
        service.send(signal.SIGHUP)
        wait_until(lambda: client.get("/livez").headers.get("connection") == "close")
        assert all(prober.get("/readyz").is_success for _ in range(20))
    assert len(service.workers) == 2
    service.send(signal.SIGINT)
    assert service.wait() == 0, service.log


@pytest.mark.parametrize("service", [{"workers": 1}], indirect=True)
def test_what_waits_at_a_worker_that_is_killed_is_served_by_the_next(service: ServiceProcess) -> None:
    [worker] = service.workers
    worker.suspend()
    wait_until(lambda: has_stopped(worker))
    with connected(service) as connection, connection.makefile("rb") as stream:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: items.test\r\nconnection: close\r\n\r\n")
        worker.kill()
        assert b"200" in stream.read()


def has_stopped(process: psutil.Process) -> bool:
    """Whether each of its threads has: one of them accepts connections."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return all("State:\tT" in (thread / "status").read_text() for thread in threads)


def test_workers_may_be_killed_again_and_again(service: ServiceProcess) -> None:
    for times in range(1, 5):
        service.workers[0].kill()
        wait_until(lambda: service.log.count("Unexpected exit") == times and len(service.workers) == 2)  # noqa: B023
    with service.client() as client:
        assert client.post("/items", json=LAMP).is_success
    service.send(signal.SIGTERM)
    assert service.wait() == 0, service.log


def test_no_request_fails_while_one_instance_after_the_other_is_restarted(tmp_path: Path) -> None:
    start = partial(ServiceProcess, f"sqlite:///{tmp_path / 'items.db'}", ITEMSVC_DRAIN_DELAY_MS=DELAY_MS)
    with ExitStack() as opened:
        services = [opened.enter_context(start()) for _ in range(2)]
        balancer = opened.enter_context(Balancer([httpx.URL(service.url).port or 0 for service in services]))
        wait_until(lambda: all(instance.is_ready for instance in balancer.instances))
        with Clients(balancer.url, "/livez") as clients:
            for service, instance in zip(services, balancer.instances, strict=True):
                service.send(signal.SIGTERM)
                assert service.wait() == 0, service.log
                opened.enter_context(start(PORT=str(instance.port)))
                wait_until(partial(has_served, instance, instance.served + 50))
    assert (balancer.failures, clients.failures) == ([], [])


def has_served(instance: Instance, count: int) -> bool:
    return instance.served >= count
