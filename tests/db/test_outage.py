"""PostgreSQL goes away and comes back: what clients see meanwhile, and what they find afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import httpx
import psutil
import pytest

from service.settings import Settings
from tests.conftest import migrate
from tests.support.postgres import QUICK, PostgresServer
from tests.support.responses import code, create_item, serving
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, PAUSE_S, until

LAMP = {"name": "lamp", "price": 1.0}
UNKNOWN = 10**9
AT_ONCE_S = 3.0
QUEUE_WAIT_MS_MAX = 60_000  # a machine that is busy must not look like a service that is


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server of the test's own, which loses nothing that it has acknowledged."""
    with PostgresServer(settings={**QUICK, "synchronous_commit": "on"}) as server:
        migrate(server.url())
        yield server


@pytest.fixture
def settings(server: PostgresServer, request: pytest.FixtureRequest) -> Settings:
    return Settings(database_url=server.url(), queue_wait_ms_max=QUEUE_WAIT_MS_MAX, **getattr(request, "param", {}))


@pytest.fixture
async def served(server: PostgresServer) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a service in processes of its own."""
    async with AsyncExitStack() as opened:
        process = ServiceProcess(server.url(), workers=2, ITEMSVC_QUEUE_WAIT_MS_MAX=str(QUEUE_WAIT_MS_MAX))
        await asyncio.to_thread(process.__enter__)
        opened.push_async_callback(asyncio.to_thread, process.__exit__)
        yield await opened.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=LIMIT_S))


@asynccontextmanager
async def outage(server: PostgresServer, stop: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Stop the server, and start it again on leaving."""
    await asyncio.to_thread(stop or server.stop)
    yield
    await asyncio.to_thread(server.start)


async def requests(client: httpx.AsyncClient, limit_s: float = AT_ONCE_S) -> list[httpx.Response]:
    """Ask for one of everything that needs the database."""
    async with asyncio.timeout(limit_s):
        return await asyncio.gather(
            client.get(f"/items/{UNKNOWN}"),
            client.get("/items?order=price"),
            client.get(f"/items?ids=1,{UNKNOWN}"),
            client.post("/items", json=LAMP),
            client.post("/items", json=[LAMP]),
            client.patch(f"/items/{UNKNOWN}", json={"price": 2}),
            client.patch("/items", json=[{"id": UNKNOWN, "price": 3}]),
            client.delete(f"/items/{UNKNOWN}"),
            client.delete(f"/items?ids={UNKNOWN}"),
        )


async def recovered(client: httpx.AsyncClient) -> None:
    """Wait until everything is served again, by the same service."""
    async with asyncio.timeout(LIMIT_S):
        while any(response.is_server_error for response in await requests(client, LIMIT_S)):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)
        while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)


async def test_meanwhile_everything_fails_at_once_and_afterwards_everything_is_served(
    client: httpx.AsyncClient, server: PostgresServer
) -> None:
    lamp = await create_item(client)
    for _ in range(2):
        async with outage(server):
            for _ in range(5):
                for response in await requests(client):
                    assert code(response) == (503, "unavailable")
                    assert response.headers["retry-after"] == "1"
                assert (await client.get("/livez")).status_code == 200
                assert code(await client.get("/readyz")) == (503, "not-ready")
        await recovered(client)
    assert (await client.get("/items/1")).json() == lamp


async def test_a_service_that_starts_without_its_database_becomes_ready_with_it(
    server: PostgresServer, settings: Settings
) -> None:
    server.stop()
    async with serving(settings) as client:
        assert (await client.get("/livez")).status_code == 200
        assert code(await client.get("/readyz")) == (503, "not-ready")
        server.start()
        await recovered(client)


async def test_a_service_stops_at_once_while_its_database_is_away(server: PostgresServer, settings: Settings) -> None:
    async with serving(settings) as client:
        await create_item(client)
        await asyncio.to_thread(server.stop)
        await requests(client)
        stopping = asyncio.timeout(AT_ONCE_S)
        await stopping.__aenter__()
    await stopping.__aexit__(None, None, None)


class Writers:
    """Clients that write without a pause, each item under a name of its own, and remember the outcomes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.outcomes: dict[str, str] = {}
        self._client = client
        self._numbers = count()
        self._tasks = [asyncio.create_task(self._write()) for _ in range(8)]

    async def _write(self) -> None:
        while True:
            name = f"item {next(self._numbers)}"
            self.outcomes[name] = "nothing"
            response = await self._client.post("/items", json={"name": name, "price": 1})
            self.outcomes[name] = "written" if response.status_code == 201 else code(response)[1]
            await asyncio.sleep(PAUSE_S)  # a refusal comes without a pause, and would leave the others none

    def names(self, outcome: str) -> set[str]:
        """Return the items with this outcome."""
        return {name for name, one in self.outcomes.items() if one == outcome}

    async def stop(self) -> None:
        """Let them finish, and fail if one of them did."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}, results


async def names(client: httpx.AsyncClient) -> set[str]:
    found: set[str] = set()
    response = await client.get("/items?limit=1000")
    while True:
        found |= {item["name"] for item in response.json()}
        if "next" not in response.links:
            return found
        response = await client.get(response.links["next"]["url"])


async def check_writes(client: httpx.AsyncClient, server: PostgresServer, stop: Callable[[], None]) -> None:
    writers = Writers(client)
    for _ in range(2):
        before = len(writers.names("written"))
        await until(lambda: len(writers.names("written")) > before + 100)  # noqa: B023
        async with outage(server, stop):
            refused = len(writers.names("unavailable"))
            await until(lambda: len(writers.names("unavailable")) > refused + 20)  # noqa: B023
        await recovered(client)
    await writers.stop()
    assert set(writers.outcomes.values()) <= {"nothing", "written", "unavailable", "commit-outcome-unknown"}
    there = await names(client) - {"lamp"}
    assert writers.names("written") <= there
    assert not writers.names("unavailable") & there


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
async def test_under_load_no_acknowledged_write_is_lost_and_none_that_was_called_undone_is_there(
    client: httpx.AsyncClient, server: PostgresServer, how: str
) -> None:
    stops = {"fast": server.stop, "immediate": lambda: server.stop("immediate"), "kill": server.kill}
    await check_writes(client, server, stops[how])


async def test_processes_that_serve_survive_their_database(served: httpx.AsyncClient, server: PostgresServer) -> None:
    await check_writes(served, server, server.kill)


async def test_after_a_restart_that_nobody_noticed_the_first_requests_are_served_or_refused_cleanly(
    client: httpx.AsyncClient, server: PostgresServer
) -> None:
    await create_item(client)
    async with outage(server):
        pass
    for response in await requests(client):
        assert response.status_code < 500 or code(response) == (503, "unavailable")
    await recovered(client)


async def test_after_a_restart_the_pool_is_as_good_as_new(client: httpx.AsyncClient, server: PostgresServer) -> None:
    await create_item(client)

    async def change(price: int) -> int:
        return (await client.patch("/items", json=[{"id": 1, "price": price}])).status_code

    assert set(await asyncio.gather(*map(change, range(8)))) == {200}  # now the pool is full
    async with outage(server):
        pass
    assert set(await asyncio.gather(*map(change, range(8)))) == {200}


@pytest.mark.parametrize("settings", [{"connect_timeout_ms": 20_000}], indirect=True)
async def test_a_reader_does_not_notice_that_a_connection_is_lost(
    client: httpx.AsyncClient, server: PostgresServer
) -> None:
    await create_item(client)
    statuses: list[int] = []

    async def read() -> None:
        while len(statuses) < 600 and statuses[-1:] in ([], [200]):
            statuses.append((await client.get("/items/1")).status_code)
            await asyncio.sleep(0)  # a refusal comes without a pause, and would leave the others none

    async def disturb() -> None:
        for seen in range(40, 600, 40):
            await until(lambda: len(statuses) > seen)  # noqa: B023
            for backend in backends(server):
                backend.terminate()

    async with asyncio.timeout(60):
        await asyncio.gather(disturb(), *(read() for _ in range(8)))
    assert set(statuses) == {200}


def backends(server: PostgresServer) -> list[psutil.Process]:
    """Return the processes of the server that serve a client."""
    assert server._process is not None
    children = psutil.Process(server._process.pid).children()
    return [child for child in children if " 127.0.0.1(" in " ".join(child.cmdline())]


SHORT = {"statement_timeout_ms": 200, "connect_timeout_ms": 500, "request_timeout_ms": 2500}
SILENCE = {(503, "unavailable"), (503, "commit-outcome-unknown"), (504, "timeout")}


@pytest.mark.parametrize("settings", [SHORT], indirect=True)
async def test_a_database_that_is_there_and_silent_is_given_up_and_found_again(
    client: httpx.AsyncClient, server: PostgresServer
) -> None:
    await create_item(client)
    assert server._process is not None
    postmaster = psutil.Process(server._process.pid)
    silent = [postmaster, *postmaster.children()]
    for process in silent:
        process.suspend()
    try:
        reading, writing = client.get("/items/1"), client.post("/items", json=LAMP)
        responses = await asyncio.gather(reading, writing)
        assert code(responses[0]) in SILENCE - {(503, "commit-outcome-unknown")}
        assert code(responses[1]) == (503, "commit-outcome-unknown")
        async with asyncio.timeout(LIMIT_S):  # each connection finds out by itself, when it is used
            while (found := set(map(code, await requests(client, LIMIT_S)))) != {(503, "unavailable")}:
                assert found <= SILENCE
        for response in await requests(client):
            assert code(response) == (503, "unavailable")
        assert (await client.get("/livez")).status_code == 200
    finally:
        for process in silent:
            process.resume()
    await recovered(client)
