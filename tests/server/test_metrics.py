"""/metrics of several workers: what any of them exposes is the service's, also when workers are killed or replaced."""

import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Thread

import httpx
import pytest

from service.server.metrics_server import CLIENTS_MAX
from tests.support.exposed import Exposed
from tests.support.ports import free_port
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, wait_until

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

LAMP = {"name": "lamp", "price": 1.0}
KILLS = 10
CLIENTS = 4


def scrape(service: ServiceProcess) -> Exposed:
    """Read the metrics, from whichever worker accepts."""
    while True:
        try:
            return Exposed(httpx.get(f"{service.url}/metrics", timeout=15).raise_for_status().text)
        except httpx.TransportError:  # the worker was killed meanwhile
            continue


class Load(Thread):
    """A client that writes and reads until it is told to stop, and counts what it is told; a cut connection is lost."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._stopping = Event()
        self.counted: Counter[tuple[str, str, str]] = Counter()
        self.lost = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with httpx.Client(base_url=self._url, timeout=15) as client:
                    self._requests(client)
            except httpx.TransportError:
                self.lost += 1

    def _requests(self, client: httpx.Client) -> None:
        while not self._stopping.is_set():
            response = client.post("/items", json=LAMP)
            self.counted["POST", "/items", str(response.status_code)] += 1
            for path in (response.json()["id"], 10**9):
                response = client.get(f"/items/{path}")
                self.counted["GET", "/items/{id}", str(response.status_code)] += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)


class Watch(Thread):
    """Scrapes all the time, and notes each counter that goes back or away."""

    def __init__(self, service: ServiceProcess) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._stopping = Event()
        self.scrapes = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        while not self._stopping.is_set():
            now = scrape(self._service).counters
            self.wrong += [(key, value, now.get(key)) for key, value in before.items() if now.get(key, -1) < value]
            before = now
            self.scrapes += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)


@contextmanager
def loaded(service: ServiceProcess) -> Iterator[list[Load]]:
    clients = [Load(service.url) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()


def test_workers_that_are_killed_under_load_lose_no_count_and_none_goes_back(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service:
        watch = Watch(service)
        watch.start()
        with loaded(service) as clients:
            for killed in range(KILLS):
                served = sum(client.counted.total() for client in clients)
                wait_until(lambda served=served: sum(client.counted.total() for client in clients) > served + 20)  # type: ignore[misc]
                service.workers[killed % 2].kill()
                wait_until(lambda killed=killed: service.log.count("Started worker-") == 3 + killed)  # type: ignore[misc]
        watch.stop()
        found = scrape(service)
        counted, lost = Counter[tuple[str, str, str]](), sum(client.lost for client in clients)
        for client in clients:
            counted += client.counted
        assert watch.scrapes > 1
        assert watch.wrong == []
        assert lost > 0
        assert found["workers_died_total"] == KILLS
        assert found["workers_started_total"] == 2 + KILLS
        assert found.sum("workers", state="serving") == found["workers_configured"] == 2
        for (method, route, status), responses in counted.items():
            exposed = found.sum("requests_total", method=method, route=route, status=status)
            # A response may have been sent, and its request not be counted yet; or counted, and its response be lost.
            assert abs(exposed - responses) <= lost, (method, route, status, exposed, responses, lost)
        assert len(list(found.of("process_open_fds"))) == 3  # the supervisor's, and of those who live


def test_a_worker_that_is_replaced_leaves_its_counts_and_no_gauge(database_url: str) -> None:
    with ServiceProcess(database_url, workers=2) as service, service.client() as client:
        for _ in range(10):
            assert client.post("/items", json=LAMP).status_code == 201
        series = scrape(service).samples.keys()
        for replaced in (2, 4):
            service.send(signal.SIGHUP)
            wait_until(lambda replaced=replaced: scrape(service)["workers_replaced_total"] == replaced)  # type: ignore[misc]
        found = scrape(service)
        assert found.sum("requests_total", method="POST", status="201") == 10
        assert found["workers_started_total"] == 6
        assert found["workers_died_total"] == 0
        assert {labels["state"]: value for labels, value in found.of("workers")} == {
            "starting": 0,
            "serving": 2,
            "draining": 0,
        }
        assert len(list(found.of("requests_in_flight"))) == 2
        new = {name for name, _ in found.samples.keys() - series}
        assert {name for name in new if not name.startswith("request")} <= {name for name, _ in series}


def test_metrics_have_a_port_of_their_own_where_any_worker_responds(database_url: str) -> None:
    port = free_port()
    with ServiceProcess(database_url, workers=2, ITEMSVC_METRICS_PORT=str(port)) as service, service.client() as client:
        assert client.post("/items", json=LAMP).status_code == 201
        assert client.get("/metrics").json()["code"] == "no-such-path"
        url = f"http://127.0.0.1:{port}/metrics"
        with closing(socket.create_connection(("127.0.0.1", port))):  # which sends nothing
            for _ in range(10):
                response = httpx.get(url, timeout=15)
                assert Exposed(response.text).sum("requests_total", method="POST", status="201") == 1
        service.workers[0].kill()
        wait_until(lambda: service.log.count("Started worker-") == 3)
        assert Exposed(httpx.get(url, timeout=15).text)["workers_died_total"] == 1
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log


def test_clients_of_the_metrics_port_that_send_nothing_are_in_nobody_s_way(database_url: str) -> None:
    port = free_port()
    with ServiceProcess(database_url, ITEMSVC_METRICS_PORT=str(port)), ExitStack() as idle:
        for number in range(2 * CLIENTS_MAX):
            client = idle.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: "[:number])
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_S).status_code == 200


@pytest.mark.parametrize("own_port", [False, True])
def test_whatever_is_asked_of_the_metrics_they_are_all_there_or_it_is_refused(
    database_url: str, own_port: bool
) -> None:
    port = free_port()
    with ServiceProcess(database_url, ITEMSVC_METRICS_PORT=str(port) if own_port else "0") as service:
        url = f"http://127.0.0.1:{port}" if own_port else service.url
        with httpx.Client(base_url=url, timeout=LIMIT_S) as client:
            for accept in ("text/plain; version=x", "application/openmetrics-text; version=x", "*/*", "nonsense"):
                response = client.get("/metrics", headers={"Accept": accept})
                assert Exposed(response.text)["workers_configured"] == 1
                assert response.headers["content-type"].startswith("text/plain")
            named = client.get("/metrics?name[]=itemsvc_workers")
            assert Exposed(named.text)["workers_configured"] == 1
            assert (client.head("/metrics").status_code, client.head("/metrics").content) == (200, b"")
            assert (client.get("/favicon.ico").status_code, client.post("/metrics").status_code) == (404, 405)
        assert "Traceback" not in service.log


def test_a_worker_that_is_stuck_is_exposed_by_another(database_url: str) -> None:
    port = free_port()
    with ServiceProcess(database_url, workers=2, ITEMSVC_METRICS_PORT=str(port)) as service:
        stopped = service.workers[0]
        stopped.suspend()
        try:
            url = f"http://127.0.0.1:{port}/metrics"
            found = Exposed(httpx.get(url, timeout=15).text)
            wait_until(lambda: Exposed(httpx.get(url, timeout=15).text)["event_loop_lag_seconds"] > 1)
        finally:
            stopped.resume()
        assert len([value for _, value in found.of("process_resident_memory_bytes") if value > 2**20]) == 3
        used, limits = (dict(map(by_worker, found.of(f"process_{name}_fds"))) for name in ("open", "max"))
        assert used.keys() == limits.keys() == {"supervisor", "1", "2"}
        assert all(0 < used[worker] < limits[worker] for worker in used)
        assert found["process_cpu_seconds_total"] > 0


def by_worker(sample: tuple[dict[str, str], float]) -> tuple[str, float]:
    labels, value = sample
    return labels["worker"], value


def test_a_port_of_the_metrics_that_is_taken_ends_the_start(database_url: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = ServiceProcess(database_url, ITEMSVC_METRICS_PORT=str(port))
        with pytest.raises(AssertionError, match="ITEMSVC_METRICS_PORT= chooses another port"), service:
            pass
