"""The primary freezes, or is cut off, and another takes its place: from then on everything goes to the other one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from db.engines.database import Options
from db.engines.engine import open_database
from db.errors import ConnectionLost, OutcomeUnknown, Unavailable
from db.models import Item
from db.resources.items import ITEMS
from db.session import transaction
from db.tables.sql import TableSQL
from service.settings import Settings
from tests.conftest import migrate
from tests.db.test_failover import RECOVERY_S, both
from tests.db.test_outage import LAMP, recovered, requests
from tests.faults.proxy import Proxy
from tests.support.postgres import HOST, QUICK, PostgresServer
from tests.support.responses import code, create_batch, create_item, read, serving
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, PAUSE_S, wait_until

# So that a frozen server is found out soon.
LIMITS: dict[str, Any] = {"statement_timeout_ms": 500, "connect_timeout_ms": 1000, "pool_wait_ms": 60_000}
ENVIRON = {f"ITEMSVC_{name}".upper(): str(value) for name, value in LIMITS.items()}
FOLLOWS_S = 2.0
SEVERAL = 64
# The connection on which single items are added, by the last statement that it ran.
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'items-service'"
NAMED = "SELECT count(*) FROM items WHERE name = 'chair'"


@pytest.fixture
def servers() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """Return two unrelated servers with the same password and items: a row shows where it was written."""
    with PostgresServer(settings={**QUICK, "synchronous_commit": "on"}) as first:
        second = PostgresServer(settings=first.settings)
        second.password = first.password
        with second:
            for server in (first, second):
                migrate(server.url())
                server.query("INSERT INTO items (name, price) VALUES ('lamp', 1), ('lamp', 1), ('lamp', 1)")
            yield first, second


@asynccontextmanager
async def of_workers(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a service with two workers, on connections of its own for each request."""
    async with AsyncExitStack() as opened:
        process = ServiceProcess(url, workers=2, **ENVIRON)
        await asyncio.to_thread(process.__enter__)
        opened.push_async_callback(asyncio.to_thread, process.__exit__)
        limits = httpx.Limits(max_keepalive_connections=0)
        yield await opened.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=LIMIT_S, limits=limits))


async def rows(server: PostgresServer, sql: str) -> list[tuple[Any, ...]]:
    """Ask a server behind the service's back."""
    return await asyncio.to_thread(server.query, sql)


async def busy(client: httpx.AsyncClient) -> None:
    """Let the service open every connection that it may have."""
    await recovered(client)
    patches = [client.patch("/items", json=[{"id": 10**9, "price": 1}]) for _ in range(SEVERAL)]
    assert {response.status_code for response in await asyncio.gather(*patches)} <= {404, 503, 504}  # if it is slow


async def written(client: httpx.AsyncClient) -> None:
    """Write until a write is acknowledged."""
    async with asyncio.timeout(LIMIT_S):
        while (await client.post("/items", json=LAMP)).status_code != 201:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_S)


async def test_once_another_server_was_found_every_verb_goes_there_at_once(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, second = servers
    async with serving(Settings(database_url=both(first.port, second), **LIMITS)) as client:
        await busy(client)
        await asyncio.to_thread(first.freeze)
        await written(client)
        for response in await requests(client, FOLLOWS_S):
            assert response.status_code in {200, 201, 404}
        chairs = await create_batch(client, [{**LAMP, "name": "chair"}] * 2)
        assert await rows(second, NAMED) == [(2,)]
        assert (await client.delete(f"/items/{chairs[0]['id']}")).status_code == 204
        await asyncio.to_thread(first.thaw)
        await busy(client)
        assert await read(client, chairs[1]["id"]) == chairs[1]
    assert await rows(first, NAMED) == [(0,)]
    assert await rows(first, "SELECT count(*) FROM items WHERE id <= 3") == [(3,)]


async def test_the_one_before_is_not_read_once_it_goes_on_by_any_worker(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, second = servers
    async with of_workers(both(first.port, second)) as client:
        await asyncio.gather(*(busy(client) for _ in range(4)))
        await asyncio.to_thread(first.freeze)
        await written(client)  # by one of them
        await asyncio.to_thread(first.thaw)
        for version in range(2, 20):
            changed = await client.patch("/items/1", json={"price": version})
            assert changed.status_code == 200
            reads = [client.get("/items/1"), client.get("/items?limit=1"), client.get("/items?ids=1")]
            for response in await asyncio.gather(*reads):
                [lamp] = response.json() if isinstance(response.json(), list) else [response.json()]
                assert (response.status_code, lamp["version"]) == (200, version)
        await create_item(client, name="chair")
        for response in await requests(client, FOLLOWS_S):
            assert response.status_code in {200, 201, 404}
    assert await rows(first, NAMED) == [(0,)]
    assert await rows(first, "SELECT version FROM items WHERE id = 1") == [(1,)]


async def test_what_another_worker_has_left_acknowledges_nothing_more(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, second = servers
    shared = [0, 0]
    options = Options(latest_primary=shared, pool_size=1)
    one, other = open_database(first.url(), options), open_database(second.url(), options)
    sql = TableSQL(one, ITEMS)

    async def write() -> None:
        async with transaction(one) as session:
            session.add(Item(name="chair", price=1.0))
            await session.flush()
            async with other.connect():  # found by another worker
                pass

    async with one.connect() as connection:
        with pytest.raises(OutcomeUnknown, match="another server"):
            await write()
        with pytest.raises(ConnectionLost):  # nothing is sent there any more
            await connection.fetch(sql.create, sql.new_rows.bind([("chair", 1.0, True, None)]))
        assert connection.closed
    await one.close()
    await other.close()


async def test_a_connection_that_is_busy_on_a_demoted_server_is_ended_once_another_one_is_found(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, second = servers
    options = Options(latest_primary=[0, 0])
    one, other = open_database(first.url(), options), open_database(second.url(), options)
    sql = TableSQL(one, ITEMS)
    elsewhere = open_database(first.url())
    async with elsewhere.engine.begin() as locked, one.connect() as busy, one.connect() as idle:
        await locked.exec_driver_sql("LOCK TABLE items")
        busy.add_close_callback(lambda: None)  # as a batcher does
        reading = asyncio.create_task(busy.fetch(sql.get, sql.ids.bind([(1,)])))
        await asyncio.to_thread(wait_until, lambda: first.query("SELECT 1 FROM pg_locks WHERE NOT granted"))
        driver = idle._driver  # type: ignore[attr-defined]
        one._primary.note(driver, asyncpg.ReadOnlySQLTransactionError())  # type: ignore[attr-defined]
        async with other.connect():
            with pytest.raises(Unavailable):
                await asyncio.wait_for(reading, LIMIT_S)
    await elsewhere.close()
    await one.close()
    await other.close()


async def test_a_stop_waits_for_a_silent_server_with_all_connections_at_the_same_time(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, _ = servers
    database = open_database(first.url(), Options(statement_timeout_ms=10_000))  # and a second, for each of four
    async with AsyncExitStack() as opened:
        for _ in range(database.options.pool_size):
            _ = await opened.enter_async_context(database.engine.connect())
    await asyncio.to_thread(first.freeze)
    async with asyncio.timeout(LIMIT_S):
        await database.close()


async def test_where_an_address_leads_elsewhere_than_before_every_connection_follows(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, second = servers
    with Proxy(HOST, first.port) as address:
        async with serving(Settings(database_url=address.url(first.url()), **LIMITS)) as client:
            await busy(client)
            address.move(HOST, second.port)  # those that are there stay
            await rows(
                first,
                "SELECT pg_terminate_backend(min(pid)) FROM pg_stat_activity WHERE application_name = 'items-service'",
            )
            async with asyncio.timeout(LIMIT_S):  # the others are ended by the one that connects again
                while await rows(second, SESSIONS) == [(0,)]:
                    pass
            for response in await requests(client, FOLLOWS_S):
                assert response.status_code in {200, 201, 404}
            await create_item(client, name="chair")
            await busy(client)
    assert await rows(first, NAMED) == [(0,)]
    assert await rows(second, NAMED) == [(1,)]


async def test_a_server_whose_place_was_taken_is_not_gone_back_to(
    servers: tuple[PostgresServer, PostgresServer],
) -> None:
    first, _ = servers
    with first.standby() as standby:
        async with serving(Settings(database_url=both(first.port, standby), **LIMITS)) as client:
            await busy(client)
            await asyncio.to_thread(first.freeze)
            await asyncio.to_thread(standby.promote)
            await written(client)
            chair = await create_item(client, name="chair")
            await asyncio.to_thread(standby.stop, "immediate")
            await asyncio.to_thread(first.thaw)
            for _ in range(3):
                for response in await requests(client, RECOVERY_S):
                    assert response.status_code in {503, 504}
            assert code(await client.get("/readyz")) == (503, "not-ready")
            await asyncio.to_thread(standby.start)
            await recovered(client)
            assert await read(client, chair["id"]) == chair
    assert await rows(first, NAMED) == [(0,)]
