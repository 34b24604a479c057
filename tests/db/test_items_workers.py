"""Items under several hands: two workers on one database, locks, and the error of a write that did not happen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain
from random import Random
from typing import Any

import pytest

from db.batching.queue import Limits
from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.errors import DatabaseError, NotFound, TimedOut, Unavailable, VersionMismatch
from db.resources.items import ITEMS
from db.session import transaction
from db.tables.statements import TableStatements
from db.tables.store import Store
from db.tables.table import Deletion
from db.transactions.idempotency import SessionConnection
from tests.support.stores import CALL, NewRow, Row, opened_items, patch

LAMP = NewRow("lamp", 0.0, in_stock=True)
LIMIT_S = 30


@pytest.fixture(params=["coalesced", "one by one"])
async def workers(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[list[Store[Row]]]:
    """Return what two processes would have: nothing in common but the database."""
    coalesce = request.param == "coalesced"
    async with AsyncExitStack() as opened, asyncio.timeout(LIMIT_S):
        workers = []
        for _ in range(2):
            database = open_database(database_url)
            opened.push_async_callback(database.close)
            # A machine that is busy must not look like a service that is.
            limits = Limits(queue_wait_ms_max=LIMIT_S * 1000)
            items = opened_items(database, coalesce=coalesce, limits=limits)
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
    workers: list[Store[Row]], database: Database
) -> None:
    ids = [row.id for row in await workers[0].create_many(CALL, [LAMP] * 40)]

    async def write(items: Store[Row], seed: int) -> list[tuple[int, int]]:
        """Write batches that overlap, in an order of their own; return each item and its version after the change."""
        random = Random(seed)  # noqa: S311 - the same disorder each time
        written: list[Row] = []
        for _ in range(6):
            one_by_one = [patch(id, price=random.random()) for id in random.sample(ids, 25)]
            as_a_batch = [patch(id, name=f"{seed}") for id in random.sample(ids, 15)]
            many = asyncio.create_task(items.update_many(CALL, as_a_batch))
            written += await asyncio.gather(*map(partial(items.update, CALL), one_by_one))
            written += await many
        return [(row.id, row.version) for row in written]

    written = list(chain(*await asyncio.gather(*(write(items, n) for n, items in enumerate(workers * 2)))))
    assert len(set(written)) == len(written) == 4 * 6 * 40
    versions = {row.id: row.version for row in await workers[0].get_many(CALL, ids)}
    assert sum(versions.values()) == len(written) + len(ids)
    assert await deadlocks(database) == 0


async def test_workers_that_delete_and_update_the_same_items_each_learn_what_they_did(
    workers: list[Store[Row]], database: Database
) -> None:
    ids = [row.id for row in await workers[0].create_many(CALL, [LAMP] * 60)]

    async def write(items: Store[Row], seed: int) -> tuple[list[int], list[object]]:
        random = Random(seed)  # noqa: S311 - the same disorder each time
        deleted: list[int] = []
        others: list[object] = []
        for _ in range(4):
            singles = random.sample(ids, 8)
            singly = asyncio.gather(*(outcome(items.delete(CALL, Deletion(id))) for id in singles))
            many = asyncio.create_task(items.delete_many(CALL, random.sample(ids, 5)))
            changes = [items.update(CALL, patch(id, name="x")) for id in random.sample(ids, 30)]
            others += await asyncio.gather(*map(outcome, changes))
            deleted += [id for id, result in zip(singles, await singly, strict=True) if result is None]
            deleted += await many
        return deleted, others

    results = await asyncio.gather(*(write(items, n) for n, items in enumerate(workers * 2)))
    deleted = list(chain(*(deleted for deleted, _ in results)))
    assert len(deleted) == len(set(deleted))
    assert {row.id for row in await workers[1].get_many(CALL, ids)} == set(ids) - set(deleted)
    assert {type(one) for one in chain(*(others for _, others in results)) if one is not NotFound} <= {Row}
    assert await deadlocks(database) == 0


async def test_no_update_at_a_version_is_lost(workers: list[Store[Row]]) -> None:
    lamp = await workers[0].create(CALL, LAMP)

    async def count(items: Store[Row]) -> int:
        """Read, add one and write until that was done five times; return how often another was faster."""
        done = beaten = 0
        while done < 5:
            row = await items.get(CALL, lamp.id)
            result = await outcome(items.update(CALL, patch(lamp.id, row.version, price=row.price + 1)))
            assert isinstance(result, Row) or result is VersionMismatch
            done, beaten = (done + 1, beaten) if isinstance(result, Row) else (done, beaten + 1)
        return beaten

    beaten = await asyncio.gather(*map(count, workers * 4))
    assert sum(beaten) > 0
    assert (await workers[1].get(CALL, lamp.id)).price == 5 * 8


async def test_a_worker_reads_what_another_has_written(workers: list[Store[Row]]) -> None:
    lamp = await workers[0].create(CALL, LAMP)
    for n in range(30):
        writer, reader = workers[n % 2], workers[1 - n % 2]
        reading = asyncio.ensure_future(reader.get(CALL, lamp.id))  # in flight while the write is
        await writer.update(CALL, patch(lamp.id, price=float(n)))
        assert (await reader.get(CALL, lamp.id)).price == n
        await reading


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_batch_of_deletions_that_timed_out_deleted_nothing(database: Database) -> None:
    async with opened_items(database) as items:
        free, locked = [row.id for row in await items.create_many(CALL, [LAMP] * 2)]
        async with transaction(database) as session:
            await TableStatements(database, ITEMS, Row).update(SessionConnection(session), [patch(locked, name="held")])
            deletions = [items.delete(CALL, Deletion(free)), items.delete(CALL, Deletion(locked, 1))]
            assert [await outcome(deletions) for deletions in deletions] == [TimedOut, TimedOut]
        assert [row.id for row in await items.get_many(CALL, [free, locked])] == [free, locked]


async def test_a_writer_that_waits_too_long_for_another_times_out_and_has_changed_nothing(
    database: Database, database_url: str
) -> None:
    other = open_database(database_url)
    async with opened_items(database) as items:
        lamp = await items.create(CALL, LAMP)
        async with transaction(other) as session:
            await TableStatements(other, ITEMS, Row).update(SessionConnection(session), [patch(lamp.id, name="held")])
            errors: list[Any] = [await outcome(items.update(CALL, patch(lamp.id, name="late")))]
            errors.append(await outcome(items.update_many(CALL, [patch(lamp.id, name="late")])))
            errors.append(await outcome(items.delete_many(CALL, [lamp.id])))
            assert set(errors) <= {TimedOut, Unavailable}
            assert await items.get(CALL, lamp.id) == lamp  # a reader waits for nobody
        assert [row.name for row in await items.get_many(CALL, [lamp.id])] == ["held"]
    await other.close()
