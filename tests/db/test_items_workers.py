"""Items under several hands: two workers on one database, locks, and what is told of a write that did not happen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from itertools import chain
from random import Random
from typing import Any

import pytest

from db.batching.queue import Limits
from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.errors import DatabaseError, NotFound, TimedOut, Unavailable, VersionMismatch
from db.items import ItemDeletion, ItemRow, Items, ItemUpdate
from db.session import transaction
from db.tables.statements import ItemStatements
from db.transactions.idempotency import SessionConnection
from tests.db.test_items_verbs import Row

LAMP = ItemRow("lamp", 0.0, in_stock=True)
LIMIT_S = 30


@pytest.fixture(params=["coalesced", "one by one"])
async def workers(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[list[Items[Row]]]:
    """Return what two processes would have: nothing in common but the database."""
    coalesce = request.param == "coalesced"
    async with AsyncExitStack() as opened, asyncio.timeout(LIMIT_S):
        workers = []
        for _ in range(2):
            database = open_database(database_url)
            opened.push_async_callback(database.close)
            # A machine that is busy must not look like a service that is.
            limits = Limits(queue_wait_ms_max=LIMIT_S * 1000)
            items = Items(database, Row, limits=limits, coalesce=coalesce, connections=4)
            workers.append(await opened.enter_async_context(items))
        yield workers


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url, Options(statement_timeout_ms=100))
    async with asyncio.timeout(LIMIT_S):
        yield database
    await database.close()


async def deadlocks(database: Database) -> int:
    if not database.has_statistics:
        return 0
    async with database.engine.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(found.scalar_one())


async def outcome(request: Awaitable[object]) -> object:
    try:
        return await request
    except DatabaseError as error:
        return type(error)


async def test_workers_that_write_the_same_items_neither_deadlock_nor_lose_a_write(
    workers: list[Items[Row]], database: Database
) -> None:
    ids = [row.id for row in await workers[0].create_many([LAMP] * 40)]

    async def write(items: Items[Row], seed: int) -> list[tuple[int, int]]:
        """Write sets that overlap, in an order of their own; give each item and its version after the change."""
        random = Random(seed)  # noqa: S311 - the same disorder each time
        written: list[Row] = []
        for _ in range(6):
            one_by_one = [ItemUpdate(id, price=random.random()) for id in random.sample(ids, 25)]
            as_a_set = [ItemUpdate(id, name=f"{seed}") for id in random.sample(ids, 15)]
            many = asyncio.create_task(items.update_many(as_a_set))
            written += await asyncio.gather(*map(items.update, one_by_one))
            written += await many
        return [(row.id, row.version) for row in written]

    written = list(chain(*await asyncio.gather(*(write(items, n) for n, items in enumerate(workers * 2)))))
    assert len(set(written)) == len(written) == 4 * 6 * 40
    versions = {row.id: row.version for row in await workers[0].get_many(ids)}
    assert sum(versions.values()) == len(written) + len(ids)
    assert await deadlocks(database) == 0


async def test_workers_that_remove_and_change_the_same_items_tell_each_what_it_did(
    workers: list[Items[Row]], database: Database
) -> None:
    ids = [row.id for row in await workers[0].create_many([LAMP] * 60)]

    async def write(items: Items[Row], seed: int) -> tuple[list[int], list[object]]:
        random = Random(seed)  # noqa: S311 - the same disorder each time
        removed: list[int] = []
        others: list[object] = []
        for _ in range(4):
            singles = random.sample(ids, 8)
            gone = asyncio.gather(*(outcome(items.delete(ItemDeletion(id))) for id in singles))
            many = asyncio.create_task(items.delete_many(random.sample(ids, 5)))
            changes = [items.update(ItemUpdate(id, name="x")) for id in random.sample(ids, 30)]
            others += await asyncio.gather(*map(outcome, changes))
            removed += [id for id, result in zip(singles, await gone, strict=True) if result is None]
            removed += await many
        return removed, others

    results = await asyncio.gather(*(write(items, n) for n, items in enumerate(workers * 2)))
    removed = list(chain(*(removed for removed, _ in results)))
    assert len(removed) == len(set(removed))
    assert {row.id for row in await workers[1].get_many(ids)} == set(ids) - set(removed)
    assert {type(told) for told in chain(*(others for _, others in results)) if told is not NotFound} <= {Row}
    assert await deadlocks(database) == 0


async def test_no_update_at_a_version_is_lost(workers: list[Items[Row]]) -> None:
    lamp = await workers[0].create(LAMP)

    async def count(items: Items[Row]) -> int:
        """Read, add one and write until that was done five times; tell how often somebody was faster."""
        done = beaten = 0
        while done < 5:
            row = await items.get(lamp.id)
            result = await outcome(items.update(ItemUpdate(lamp.id, row.version, price=row.price + 1)))
            assert isinstance(result, Row) or result is VersionMismatch
            done, beaten = (done + 1, beaten) if isinstance(result, Row) else (done, beaten + 1)
        return beaten

    beaten = await asyncio.gather(*map(count, workers * 4))
    assert sum(beaten) > 0
    assert (await workers[1].get(lamp.id)).price == 5 * 8


async def test_a_worker_reads_what_another_was_told_is_written(workers: list[Items[Row]]) -> None:
    lamp = await workers[0].create(LAMP)
    for n in range(30):
        writer, reader = workers[n % 2], workers[1 - n % 2]
        reading = asyncio.ensure_future(reader.get(lamp.id))  # in flight while the write is
        await writer.update(ItemUpdate(lamp.id, price=float(n)))
        assert (await reader.get(lamp.id)).price == n
        await reading


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_set_of_removals_that_timed_out_removed_nothing(database: Database) -> None:
    async with Items(database, Row, limits=Limits(), coalesce=True, connections=1) as items:
        free, locked = [row.id for row in await items.create_many([LAMP] * 2)]
        async with transaction(database) as session:
            await ItemStatements(database, Row).update(SessionConnection(session), [ItemUpdate(locked, name="held")])
            removals = [items.delete(ItemDeletion(free)), items.delete(ItemDeletion(locked, 1))]
            assert [await outcome(removal) for removal in removals] == [TimedOut, TimedOut]
        assert [row.id for row in await items.get_many([free, locked])] == [free, locked]


async def test_a_writer_that_waits_too_long_for_another_is_told_and_has_changed_nothing(
    database: Database, database_url: str
) -> None:
    other = open_database(database_url)
    async with Items(database, Row, limits=Limits(), coalesce=True, connections=1) as items:
        lamp = await items.create(LAMP)
        async with transaction(other) as session:
            await ItemStatements(other, Row).update(SessionConnection(session), [ItemUpdate(lamp.id, name="held")])
            told: list[Any] = [await outcome(items.update(ItemUpdate(lamp.id, name="late")))]
            told.append(await outcome(items.update_many([ItemUpdate(lamp.id, name="late")])))
            told.append(await outcome(items.delete_many([lamp.id])))
            assert set(told) <= {TimedOut, Unavailable}
            assert await items.get(lamp.id) == lamp  # a reader waits for nobody
        assert [row.name for row in await items.get_many([lamp.id])] == ["held"]
    await other.close()
