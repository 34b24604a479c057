"""PostgreSQL waits for a synchronous standby that is away: what no standby has is acknowledged to nobody."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from service.settings import Settings
from tests.conftest import migrate
from tests.faults.cuts import UNKNOWN
from tests.faults.proxy import Proxy
from tests.support.pgbouncer import BINARY, PgBouncerServer
from tests.support.postgres import HOST, QUICK, SUPERUSER, PostgresServer
from tests.support.responses import code, create_batch, serving
from tests.support.waiting import LIMIT_S, PAUSE_S, wait_until

LIMITS: dict[str, Any] = {
    "statement_timeout_ms": 200,
    "request_timeout_ms": 1800,
}  # the driver gives up a second after the former
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
# Where asyncpg is cut off while it asks for TLS for a request to cancel that nobody waits for any more, it complains to
# the loop (0.32).
PLAIN = "?ssl=disable"
SHORT = {"x-request-timeout": "1.4"}
NOT_DONE = {"timeout", "overloaded", "unavailable", "idempotency-key-in-use"}
STANDBYS = "synchronous_standby_names"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'items-service'"
NUMBERS = count(1)
NEW = {"name": "lamp", "price": 1.0}


class Write(NamedTuple):
    """A write of one item or of a batch, with or without a key, and what acknowledges it."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})

    async def send(self, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
        sent = {} if self.body is None else {"json": self.body}
        return await client.request(self.method, self.path, headers={**self.headers, **headers}, **sent)

    def __str__(self) -> str:
        shape = "batch" if isinstance(self.body, list) or "ids=" in self.path else "one"
        return " ".join([self.method, shape, *self.headers])


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={**QUICK, "synchronous_commit": "on"}) as server:
        migrate(server.url())
        yield server


@pytest.fixture
async def behind(server: PostgresServer) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """Connect behind the service's back."""
    connection = await asyncpg.connect(
        host=HOST, port=server.port, user=SUPERUSER, password=server.password, database="postgres"
    )
    yield connection
    connection.terminate()


@pytest.fixture
async def client(server: PostgresServer) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Settings(database_url=f"{server.url()}{PLAIN}", **LIMITS)) as client:
        yield client


@asynccontextmanager
async def nobody_follows(server: PostgresServer) -> AsyncIterator[None]:
    """Let commits wait for a standby that there is not, and on leaving for none."""
    await asyncio.to_thread(server.configure, STANDBYS, "nobody")
    try:
        yield
    finally:
        await asyncio.to_thread(server.configure, STANDBYS, "")


async def every_write(client: httpx.AsyncClient, *, with_keys: bool) -> list[Write]:
    """Prepare a write of every kind, each for items of its own that are already there."""
    items = await create_batch(client, [NEW] * 10)
    ids = [item["id"] for item in items]
    headers = [{"idempotency-key": f"k-{next(NUMBERS)}"} if with_keys else {} for _ in range(8)]
    return [
        Write("POST", "/items", NEW, headers[0]),
        Write("POST", "/items", [NEW, NEW], headers[1]),
        Write("PUT", f"/items/{ids[0]}", NEW, headers[2]),
        Write("PATCH", f"/items/{ids[1]}", {"price": 2}, headers[3]),
        Write("PATCH", f"/items/{ids[2]}", {"price": 2}, {**headers[4], "if-match": '"1-json", "2-json"'}),
        Write("PATCH", "/items", [{"id": id, "price": 2} for id in ids[3:5]], headers[5]),
        Write("DELETE", f"/items/{ids[5]}", None, headers[6]),
        Write("DELETE", f"/items?ids={ids[6]},{ids[7]}", None, headers[7]),
    ]


async def outcomes(url: str, writes: list[Write], **settings: Any) -> dict[str, str]:
    """Send all of them at once, each to a service of its own, and return the outcome of each.

    A machine that is busy may let one wait for too long before its commit: that was not done, and is sent again.
    """

    async def send(write: Write) -> str:
        async with (
            serving(Settings(database_url=f"{url}{PLAIN}", **LIMITS, **settings)) as client,
            asyncio.timeout(2 * LIMIT_S),
        ):
            while (outcome := name_of(await write.send(client))) in NOT_DONE:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_S)
            return outcome

    return dict(zip(map(str, writes), await asyncio.gather(*map(send, writes)), strict=True))


def name_of(response: httpx.Response) -> str:
    return str(response.status_code) if response.is_success else code(response)[1]


async def count_items(connection: "asyncpg.Connection[Any]") -> int:
    return int(await connection.fetchval("SELECT count(*) FROM items"))


@pytest.mark.parametrize("with_keys", [False, True], ids=["without keys", "with keys"])
async def test_what_no_standby_has_is_not_acknowledged_and_found_once_a_standby_is_there(
    server: PostgresServer, client: httpx.AsyncClient, behind: "asyncpg.Connection[Any]", *, with_keys: bool
) -> None:
    writes = await every_write(client, with_keys=with_keys)
    before = await count_items(behind)
    async with nobody_follows(server):
        for _ in range(2 if with_keys else 1):  # nor is a repeat
            assert await outcomes(server.url(), writes) == dict.fromkeys(map(str, writes), UNKNOWN)
    if with_keys:
        assert set((await outcomes(server.url(), writes)).values()) <= {"200", "201", "204"}
        assert await count_items(behind) == before  # three were created, and three deleted


async def cancel(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(WAITING.replace("pid", "pg_cancel_backend(pid)"))


async def terminate(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(WAITING.replace("pid", "pg_terminate_backend(pid)"))


@pytest.mark.parametrize("end", [cancel, terminate])
@pytest.mark.parametrize("with_keys", [False, True], ids=["without keys", "with keys"])
async def test_a_wait_for_the_standby_that_is_ended_acknowledges_nothing(
    server: PostgresServer,
    client: httpx.AsyncClient,
    behind: "asyncpg.Connection[Any]",
    end: Callable[..., Any],
    *,
    with_keys: bool,
) -> None:
    writes = await every_write(client, with_keys=with_keys)
    async with nobody_follows(server):
        sending = asyncio.create_task(outcomes(server.url(), writes))
        while not sending.done():
            await end(behind)
            await asyncio.sleep(PAUSE_S)
        assert await sending == dict.fromkeys(map(str, writes), UNKNOWN)


async def test_a_role_that_hears_no_warnings_acknowledges_nothing_that_no_standby_has_either(
    server: PostgresServer, behind: "asyncpg.Connection[Any]"
) -> None:
    await behind.execute(f"ALTER ROLE {SUPERUSER} SET client_min_messages = error")
    try:
        async with serving(Settings(database_url=f"{server.url()}{PLAIN}", **LIMITS)) as client, nobody_follows(server):
            sending = asyncio.create_task(Write("POST", "/items", NEW).send(client))
            while not sending.done():
                await cancel(behind)
                await asyncio.sleep(PAUSE_S)
            assert code(await sending) == (503, UNKNOWN)
    finally:
        await behind.execute(f"ALTER ROLE {SUPERUSER} RESET client_min_messages")


@pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed; on Debian, apt-get install pgbouncer")
@pytest.mark.parametrize("end", [None, cancel, terminate])
async def test_behind_pgbouncer_as_well_nothing_is_acknowledged_that_no_standby_has(
    server: PostgresServer,
    client: httpx.AsyncClient,
    behind: "asyncpg.Connection[Any]",
    end: Callable[..., Any] | None,
) -> None:
    writes = [write for with_keys in (False, True) for write in await every_write(client, with_keys=with_keys)]
    with PgBouncerServer(server.url(), connections=len(writes)) as pgbouncer:
        async with nobody_follows(server):
            sending = asyncio.create_task(outcomes(pgbouncer.url(server.url()), writes, pgbouncer=True))
            while not sending.done():
                if end is not None:
                    await end(behind)
                await asyncio.sleep(PAUSE_S)
            assert await sending == dict.fromkeys(map(str, writes), UNKNOWN)
            await nobody_waits(behind)


@pytest.mark.parametrize("stops", [False, True], ids=["the service goes on", "the service stops"])
async def test_the_request_to_cancel_a_wait_outlives_the_request_that_has_given_up(
    server: PostgresServer, client: httpx.AsyncClient, behind: "asyncpg.Connection[Any]", *, stops: bool
) -> None:
    writes = await every_write(client, with_keys=True)
    with Proxy(HOST, server.port) as proxy:
        async with nobody_follows(server), AsyncExitStack() as running:
            # asyncpg asks for TLS first: the request to cancel takes two round trips.
            service = await running.enter_async_context(
                serving(Settings(database_url=proxy.url(server.url()), **LIMITS))
            )
            sending = [asyncio.create_task(write.send(service, **SHORT)) for write in writes]
            async with asyncio.timeout(LIMIT_S):
                while not await behind.fetch(WAITING):  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE_S)
            proxy.set(latency_s=0.2)
            assert {code(response)[0] for response in await asyncio.gather(*sending)} <= {503, 504}
            if stops:
                await running.aclose()
            await nobody_waits(behind)


async def nobody_waits(behind: "asyncpg.Connection[Any]") -> None:
    """Wait until no backend waits for a standby."""
    async with asyncio.timeout(LIMIT_S):
        while await behind.fetch(WAITING):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)


async def test_while_the_standby_is_away_waiting_backends_are_bounded_and_reads_go_on(
    server: PostgresServer,
    client: httpx.AsyncClient,
    behind: "asyncpg.Connection[Any]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    writes = [*await every_write(client, with_keys=True), *await every_write(client, with_keys=False)]
    [lamp, *_] = await create_batch(client, [NEW])
    await asyncio.gather(*(client.patch("/items", json=[{"id": 10**9, "price": 1}]) for _ in range(64)))  # the pool
    at_rest, most_waiting, most = int(await behind.fetchval(SESSIONS)), 0, 0
    async with nobody_follows(server):
        for _ in range(3):
            sending = [asyncio.create_task(write.send(client)) for write in writes]
            while not all(task.done() for task in sending):
                assert (await client.get(f"/items/{lamp['id']}")).json() == lamp
                assert (await client.get("/items?limit=1")).is_success
                most_waiting = max(most_waiting, len(await behind.fetch(WAITING)))
                most = max(most, int(await behind.fetchval(SESSIONS)))
                await asyncio.sleep(PAUSE_S)
            assert {code(response)[0] for response in await asyncio.gather(*sending)} <= {503, 504}
        assert (await client.get("/readyz")).is_success
    assert 0 < most_waiting <= at_rest
    assert most <= 2 * at_rest  # while one is being ended, another stands in its place
    assert "no synchronous standby" in caplog.text
    await nobody_waits(behind)


async def test_a_crash_does_not_make_a_write_durable_that_no_standby_has(
    server: PostgresServer, client: httpx.AsyncClient
) -> None:
    writes = await every_write(client, with_keys=False)
    async with nobody_follows(server):
        sending = [asyncio.create_task(write.send(client)) for write in writes]
        await asyncio.to_thread(wait_until, lambda: len(server.query(WAITING)) >= 4)
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
        found = {code(response)[1] for response in await asyncio.gather(*sending)}  # none is acknowledged
    assert UNKNOWN in found
