"""Small batches that are asked for at the same time share statements: each is as it is alone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from db.engines.database import Database
from db.engines.engine import open_database
from db.errors import InvalidValue
from db.migrate import upgrade
from db.tables.bulk import BATCHES_MAX, SHARED_ROWS_MAX
from db.tables.statements import TableStatements
from db.tables.store import Store
from tests.support.stores import CALL, NewRow, Row, opened_items

LAMP = NewRow("lamp", 9.5, in_stock=True)
NAMELESS = LAMP._replace(name="")  # which the database refuses
MANY = 25  # batches


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    await upgrade(database)
    yield database
    await database.close()


@pytest.fixture(params=["coalesced", "one by one"])
async def items(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Store[Row]]:
    async with opened_items(database, coalesce=request.param == "coalesced") as items:
        yield items


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many rows each statement of a batch has read or created."""
    sizes: list[int] = []
    for verb in ("_found", "create"):
        run = getattr(TableStatements, verb)

        async def run_and_count(statements: Any, connection: Any, rows: Any, *token: Any, run: Any = run) -> Any:
            sizes.append(len(rows))
            return await run(statements, connection, rows, *token)

        monkeypatch.setattr(TableStatements, verb, run_and_count)
    return sizes


def new_rows(batch: int, count: int) -> list[NewRow]:
    return [NewRow(f"item {place} of {batch}", batch + place / 4, in_stock=place % 2 == 0) for place in range(count)]


def written(rows: Sequence[Row]) -> list[NewRow]:
    return [NewRow(row.name, row.price, row.in_stock) for row in rows]


async def test_each_batch_gets_its_own_rows_in_its_order(items: Store[Row]) -> None:
    batches = [new_rows(batch, 1 + batch % 4) for batch in range(MANY)]
    created = await asyncio.gather(*(items.create_many(CALL, batch) for batch in batches))
    assert list(map(written, created)) == batches
    assert all([row.id for row in rows] == sorted(row.id for row in rows) for rows in created)
    ids = [[row.id for row in reversed(rows)] for rows in created]
    ids[1] += [10**9, *ids[0], *ids[1]]  # one that is missing, those of another batch, and its own again
    by_id = {row.id: row for rows in created for row in rows}
    found = await asyncio.gather(*(items.get_many(CALL, batch) for batch in ids))
    assert found == [[by_id[id] for id in batch if id in by_id] for batch in ids]


async def test_batches_that_wait_share_statements_and_large_ones_have_their_own(
    items: Store[Row], sizes: list[int], request: pytest.FixtureRequest
) -> None:
    counts = [2] * (2 * BATCHES_MAX) + [SHARED_ROWS_MAX + 1] * 2
    created = await asyncio.gather(*(items.create_many(CALL, new_rows(0, count)) for count in counts))
    writes = sizes[:]
    await asyncio.gather(*(items.get_many(CALL, [row.id for row in rows]) for rows in created))
    reads = sizes[len(writes) :]
    is_shared = "coalesced" in request.node.callspec.id
    for found in (reads, writes):
        assert sum(found) == sum(counts)
        assert found.count(SHARED_ROWS_MAX + 1) == 2
        assert (max(size for size in found if size <= SHARED_ROWS_MAX) == 2 * BATCHES_MAX) is is_shared
        assert (len(found) < len(counts)) is is_shared


async def test_a_bad_batch_fails_alone_and_whole(items: Store[Row]) -> None:
    batches = [new_rows(batch, 3) for batch in range(MANY)]
    bad = {0, 7, 8, MANY - 1}
    for batch in bad:
        batches[batch][batch % 3] = NAMELESS
    results = await asyncio.gather(*(items.create_many(CALL, batch) for batch in batches), return_exceptions=True)
    for batch, result in enumerate(results):
        if batch in bad:
            assert isinstance(result, InvalidValue)
        else:
            assert isinstance(result, list)
            assert written(result) == batches[batch]
    created = [row.id for rows in results if isinstance(rows, list) for row in rows]
    everything = await items.get_many(CALL, range(1, max(created) + 100))
    assert [row.id for row in everything] == sorted(created)
