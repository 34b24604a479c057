"""Reads show what the database has, whatever changed it: no worker remembers a row, its plan or its version."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.settings import Settings
from tests.conftest import migrate
from tests.db.test_failover import both
from tests.db.test_outage import recovered
from tests.support.postgres import QUICK, PostgresServer, Standby
from tests.support.responses import serving, walked
from tests.support.waiting import wait_until

COUNT = 30
ROWS = [{"name": f"item {n:02}", "price": n / 4} for n in range(COUNT)]
OTHERS = [{"name": f"other {n:02}", "price": float(COUNT - n)} for n in range(COUNT)]
TABLE = "SELECT id, name, price, version FROM items ORDER BY id"
RECEIVERS = "SELECT 1 FROM pg_stat_wal_receiver"

Truth = dict[int, tuple[str, float, int]]  # of each id: name, price and version


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return what reaches the database past the service."""
    engine = create_async_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={**QUICK, "synchronous_commit": "on"}) as server:
        migrate(server.url())
        yield server


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def table(engine: AsyncEngine) -> Truth:
    async with engine.connect() as connection:
        return of_rows((await connection.exec_driver_sql(TABLE)).all())


def of_rows(rows: Any) -> Truth:
    return {id: (name, price, version) for id, name, price, version in rows}


def of_items(items: Sequence[Mapping[str, Any]]) -> Truth:
    return of_rows((item["id"], item["name"], item["price"], item["version"]) for item in items)


async def check(client: httpx.AsyncClient, truth: Truth) -> None:
    """Read each row in every way, many at the same time, and compare it with what the database has."""
    ids = range(1, max(truth) + 3)
    ones = asyncio.gather(*(client.get(f"/items/{id}") for id in [*ids, *ids]))
    batches = asyncio.gather(*(client.get(f"/items?ids={','.join(map(str, ids[n:]))}") for n in range(4)))
    orders = ("id", "-id", "name", "-name", "price", "created_at")
    lists = asyncio.gather(*(walked(client, f"/items?limit=7&order={order}") for order in orders))
    filtered = walked(client, "/items?limit=7&price_min=0")
    for id, response in zip([*ids, *ids], await ones, strict=True):
        assert of_items([response.json()] if response.status_code == 200 else []) == {
            each: row for each, row in truth.items() if each == id
        }
    for n, response in enumerate(await batches):
        assert of_items(response.json()) == {id: row for id, row in truth.items() if id in ids[n:]}
    for items in (*await lists, await filtered):
        assert of_items(items) == truth
        assert len(items) == len(truth)


async def create(client: httpx.AsyncClient, rows: list[dict[str, Any]]) -> Truth:
    response = await client.post("/items", json=rows)
    assert response.status_code == 201
    return of_items(response.json())


async def test_rows_that_sql_changed_by_hand_without_their_version(
    client: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    await check(client, await create(client, ROWS))
    changes = (
        "UPDATE items SET name = 'changed', price = 7.5 WHERE id = 1",
        "DELETE FROM items WHERE id = 2",
        "INSERT INTO items (id, name, price, in_stock) VALUES (2, 'put in its place', 1.5, true)",
        "UPDATE items SET version = 1, name = 'back' WHERE id = 3",
        "DELETE FROM items WHERE id > 20",
    )
    for change in changes:
        await run(engine, change)
        await check(client, await table(engine))


async def test_a_transaction_that_is_open_and_then_rolled_back(client: httpx.AsyncClient, engine: AsyncEngine) -> None:
    truth = await create(client, ROWS)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("UPDATE items SET name = 'never', version = version + 1")
        await connection.exec_driver_sql("DELETE FROM items WHERE id = 5")
        await check(client, truth)
        await connection.rollback()
    await check(client, truth)
    response = await client.patch("/items/5", json={"name": "after it"})
    assert response.json()["version"] == 2
    await check(client, await table(engine))


async def test_a_table_that_was_written_anew(client: httpx.AsyncClient, engine: AsyncEngine, backend: str) -> None:
    truth = await create(client, ROWS)
    commands = ["VACUUM FULL items", "VACUUM FREEZE items", "CLUSTER items USING ix_items_name_id", "ANALYZE items"]
    for command in commands if backend == "postgresql" else ["VACUUM", "REINDEX", "ANALYZE"]:
        autocommitting = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with autocommitting.connect() as connection:
            await connection.exec_driver_sql(command)
        await check(client, truth)
        response = await client.patch("/items/1", json={"name": command})
        truth[1] = (command, response.json()["price"], response.json()["version"])
        await check(client, truth)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_another_content_of_the_same_file(client: httpx.AsyncClient, database_url: str, tmp_path: Path) -> None:
    path = str(make_url(database_url).database)
    await check(client, truth := await create(client, ROWS))
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        live.backup(backup)
        await replaced(client)
        backup.backup(live)
    await check(client, truth)


async def test_a_dump_that_is_restored_under_the_same_ids(server: PostgresServer) -> None:
    async with serving(Settings(database_url=server.url())) as client:
        truth = await create(client, ROWS)
        await asyncio.to_thread(server.dump)
        await replaced(client)
        await asyncio.to_thread(server.restore)
        await recovered(client)
        found = of_rows(await asyncio.to_thread(server.query, TABLE))  # `recovered` has created some
        assert {id: row for id, row in found.items() if id <= COUNT} == truth
        await check(client, found)


async def test_a_standby_that_takes_over_without_the_last_writes(server: PostgresServer) -> None:
    with server.standby() as standby:
        async with serving(Settings(database_url=both(server.port, standby))) as client:
            truth = await create(client, ROWS)
            [[end]] = await asyncio.to_thread(server.query, "SELECT pg_current_wal_flush_lsn()::text")
            await asyncio.to_thread(wait_until, has_replayed(standby, end))
            await asyncio.to_thread(cut, standby)
            lost = await replaced(client)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(standby.promote)
            await recovered(client)
            found = of_rows(await asyncio.to_thread(standby.query, TABLE))
            assert {id: row for id, row in found.items() if id <= COUNT} == truth  # the last writes are lost
            await check(client, found)
            changed = await asyncio.gather(
                *(client.put(f"/items/{id}", json={"name": "kept", "price": 1}) for id in range(1, COUNT + 1))
            )
            assert {one.status_code for one in changed} == {200}
            versions = {one.json()["version"] for one in changed}
            assert versions == {version for _, _, version in lost.values()}  # by which they cannot be told apart
            await check(client, of_rows(await asyncio.to_thread(standby.query, TABLE)))


async def replaced(client: httpx.AsyncClient) -> Truth:
    """Replace every row, read them all, and return them."""
    responses = await asyncio.gather(*(client.put(f"/items/{id}", json=other) for id, other in enumerate(OTHERS, 1)))
    truth = of_items([response.json() for response in responses])
    await check(client, truth)
    return truth


def has_replayed(standby: Standby, end: str) -> Callable[[], bool]:
    return lambda: standby.query(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == [(True,)]


def cut(standby: Standby) -> None:
    """End the replication of a standby, which would take over with all that it was sent."""
    standby.query("ALTER SYSTEM SET primary_conninfo = ''")
    standby.query("SELECT pg_reload_conf()")
    wait_until(lambda: not standby.query(RECEIVERS))
