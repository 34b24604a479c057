"""Transactions: flushed, then committed; and on whatever is raised, as if they had never begun."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import select, text

from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.errors import Conflict, InvalidValue, OutcomeUnknown, Overloaded, Unavailable
from db.models import Item
from db.session import transaction
from tests.support.waiting import LIMIT_S

SLOW = {
    "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000000) SELECT max(n) FROM n",
    "postgresql": "SELECT pg_sleep(20)",
}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url, Options(pool_size=2, pool_wait_ms=50))
    async with asyncio.timeout(LIMIT_S):
        yield database
        assert "Current Checked out connections: 0" in database.engine.pool.status()
    await database.close()


async def names(database: Database) -> list[str]:
    async with transaction(database) as session:
        return list(await session.scalars(select(Item.name).order_by(Item.id)))


async def add_lamp(database: Database) -> Item:
    async with transaction(database) as session:
        lamp = Item(name="lamp", price=1.0)
        session.add(lamp)
    return lamp


async def test_what_was_done_is_there_after_the_block_and_not_seen_before(database: Database) -> None:
    async with transaction(database) as session:
        session.add_all([Item(name=name, price=2) for name in ("lamp", "chair")])
        await session.flush()
        async with database.connect() as other:
            assert await other.fetch(database.statement(select(Item.id)), {}) == []
    assert await names(database) == ["lamp", "chair"]


async def test_an_object_has_its_id_and_values_after_the_block_without_asking_again(database: Database) -> None:
    lamp = await add_lamp(database)
    assert (lamp.id, lamp.name, lamp.price) == (1, "lamp", 1.0)


async def test_an_object_that_was_changed_is_written_on_leaving(database: Database) -> None:
    lamp = await add_lamp(database)
    async with transaction(database) as session:
        found = await session.get_one(Item, lamp.id)
        assert (found.in_stock, found.version, found.created_at.utcoffset()) == (True, 1, found.updated_at.utcoffset())
        found.name = "chair"
    assert await names(database) == ["chair"]


async def test_a_block_that_does_nothing_is_no_error(database: Database) -> None:
    async with transaction(database):
        pass
    assert await names(database) == []


class StrayError(Exception):
    """Raised in the middle of a block."""


async def test_what_is_raised_in_the_block_comes_out_and_nothing_has_happened(database: Database) -> None:
    async def work() -> None:
        async with transaction(database) as session:
            session.add(Item(name="lamp", price=1))
            await session.flush()
            raise StrayError

    for _ in range(3):  # more often than there are connections
        with pytest.raises(StrayError):
            await work()
    assert await names(database) == []


async def test_a_check_that_fails_only_on_leaving_undoes_the_whole_block(database: Database) -> None:
    async def work() -> None:
        async with transaction(database) as session:
            session.add(Item(name="lamp", price=1))
            await session.flush()
            session.add(Item(name="", price=1))

    with pytest.raises(InvalidValue):
        await work()
    assert await names(database) == []


async def test_a_key_that_is_taken_is_a_conflict(database: Database) -> None:
    lamp = await add_lamp(database)
    with pytest.raises(Conflict):
        async with transaction(database) as session:
            session.add(Item(id=lamp.id, name="chair", price=1))
    assert await names(database) == ["lamp"]


async def test_a_cancelled_block_is_undone_and_gives_its_connection_back(database: Database) -> None:
    async def work(reached: asyncio.Event) -> None:
        async with transaction(database) as session:
            session.add(Item(name="lamp", price=1))
            await session.flush()
            reached.set()
            await asyncio.Event().wait()

    for _ in range(3):
        reached = asyncio.Event()
        task = asyncio.create_task(work(reached))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await names(database) == []


async def test_a_block_that_is_cancelled_during_a_statement_is_undone(database: Database, backend: str) -> None:
    async def work(reached: asyncio.Event) -> None:
        async with transaction(database) as session:
            session.add(Item(name="lamp", price=1))
            await session.flush()
            reached.set()
            await session.execute(text(SLOW[backend]))

    for _ in range(3):
        reached = asyncio.Event()
        task = asyncio.create_task(work(reached))
        await reached.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await names(database) == []
    await add_lamp(database)


async def test_a_block_that_gets_no_connection_in_time_is_overloaded(database: Database, backend: str) -> None:
    async with AsyncExitStack() as opened:
        for _ in range(2 if backend == "postgresql" else 1):  # SQLite has one writer, and as many connections
            session = await opened.enter_async_context(transaction(database))
            session.add(Item(name="lamp", price=1))
            await session.flush()
        with pytest.raises(Overloaded):
            await add_lamp(database)
    assert set(await names(database)) == {"lamp"}


async def test_many_blocks_at_once_share_few_connections(database_url: str) -> None:
    database = open_database(database_url, Options(pool_size=2, pool_wait_ms=10_000))
    await asyncio.gather(*(add_lamp(database) for _ in range(30)))
    assert await names(database) == ["lamp"] * 30
    await database.close()


async def terminate(database: Database, backend_id: int) -> None:
    async with database.engine.connect() as connection:
        # With a time to wait for its end, so that nobody is still connected afterwards.
        await connection.execute(text("SELECT pg_terminate_backend(:id, 10000)"), {"id": backend_id})


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_file_is_written_through_to_the_disk_by_whoever_writes(database: Database) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    async with transaction(database) as session:
        found = {name: (await session.execute(text(f"PRAGMA {name}"))).scalar_one() for name in wanted}
    assert found == wanted
    async with database.connect() as batcher:
        driver = getattr(batcher, "_driver")  # noqa: B009 - every connection has one, and shows none
        found = {name: next(iter(await driver.execute_fetchall(f"PRAGMA {name}")))[0] for name in wanted}
    assert found == wanted


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_connection_that_is_lost_before_the_commit_has_changed_nothing(database: Database) -> None:
    async def work() -> None:
        async with transaction(database) as session:
            await terminate(database, (await session.scalars(text("SELECT pg_backend_pid()"))).one())
            session.add(Item(name="lamp", price=1))

    with pytest.raises(Unavailable):
        await work()
    assert await names(database) == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_server_that_is_no_longer_the_primary_is_left(database: Database) -> None:
    async with transaction(database) as session:
        await session.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    with pytest.raises(Unavailable):
        await add_lamp(database)
    await add_lamp(database)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_of_a_commit_whose_connection_is_lost_the_outcome_is_unknown(database: Database) -> None:
    async def work() -> None:
        async with transaction(database) as session:
            session.add(Item(name="lamp", price=1))
            await session.flush()
            await terminate(database, (await session.scalars(text("SELECT pg_backend_pid()"))).one())

    with pytest.raises(OutcomeUnknown):
        await work()
    assert await names(database) == []
