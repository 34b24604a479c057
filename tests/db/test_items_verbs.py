"""The verbs of items, asked of a database directly: every one takes a batch and returns rows in its order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from functools import partial
from math import inf, nan
from typing import Any, TypeVar

import pytest

from db.engines.database import Database, translate_errors
from db.engines.engine import open_database
from db.errors import InvalidValue, NotFound, VersionMismatch
from db.migrate import upgrade
from db.tables.store import Store
from db.tables.table import Deletion, Patch
from tests.support.stores import CALL, NewRow, Row, opened_items, patch

T = TypeVar("T")


LAMP = NewRow("lamp", 9.5, in_stock=True)
BAD = [
    LAMP._replace(name=""),
    LAMP._replace(name="é" * 256),
    LAMP._replace(price=inf),
    LAMP._replace(price=-inf),
    LAMP._replace(price=nan),
    LAMP._replace(price=-0.5),
]


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest) -> str:
    return "sqlite+aiosqlite://" if backend == "memory" else str(request.getfixturevalue("database_url"))


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = open_database(url)
    await upgrade(database)
    yield database
    await database.close()


@pytest.fixture(params=["coalesced", "one by one"])
async def items(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Store[Row]]:
    coalesce = request.param == "coalesced"
    async with opened_items(database, coalesce=coalesce) as items:
        yield items


async def together(waiters: Sequence[Awaitable[T]]) -> list[Any]:
    """Wait for what was asked for in one iteration of the loop, and so left as one batch."""
    return await asyncio.gather(*waiters, return_exceptions=True)


def kinds(results: Sequence[object]) -> list[type]:
    return [type(result) for result in results]


async def everything(database: Database) -> list[tuple[Any, ...]]:
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.exec_driver_sql("SELECT * FROM items ORDER BY id")]


async def test_a_batch_of_new_items_comes_back_in_its_order_with_ids_drawn_in_it(items: Store[Row]) -> None:
    rows = [NewRow(f"item {n % 7}", n / 4, in_stock=n % 2 == 0) for n in reversed(range(1000))]
    added = await items.create_many(CALL, rows)
    assert [NewRow(row.name, row.price, row.in_stock) for row in added] == rows
    assert [row.id for row in added] == list(range(1, 1001))
    assert {(row.version, row.created_at == row.updated_at, row.created_at.utcoffset()) for row in added} == {
        (1, True, added[0].created_at.utcoffset())
    }
    assert await items.get_many(CALL, [row.id for row in added]) == added


async def test_new_items_that_share_a_statement_each_come_back_to_their_call(items: Store[Row]) -> None:
    rows = [NewRow(f"item {n}", n, in_stock=True) for n in reversed(range(300))]
    added = await together([items.create(CALL, row) for row in rows])
    assert [row.name for row in added] == [row.name for row in rows]
    assert {row.id for row in added} == set(range(1, 301))
    assert await together([items.get(CALL, row.id) for row in added]) == added


async def test_bad_rows_fail_alone_and_the_others_of_their_batch_are_created(
    items: Store[Row], database: Database
) -> None:
    rows = [LAMP, *BAD, LAMP, *BAD, *[LAMP] * 100]
    results = await together([items.create(CALL, row) for row in rows])
    assert kinds(results) == [InvalidValue if row in BAD else Row for row in rows]
    good = [result for result in results if isinstance(result, Row)]
    assert len({row.id for row in good}) == len(good) == len(await everything(database))


async def test_one_bad_row_refuses_a_whole_batch_that_is_all_or_nothing(items: Store[Row], database: Database) -> None:
    for bad in BAD:
        with pytest.raises(InvalidValue):
            await items.create_many(CALL, [LAMP, bad, LAMP])
    assert await everything(database) == []


async def test_the_longest_name_counts_characters_not_bytes(items: Store[Row]) -> None:
    assert (await items.create(CALL, LAMP._replace(name="é" * 255))).name == "é" * 255


async def test_a_change_leaves_what_it_does_not_name(items: Store[Row]) -> None:
    lamp = await items.create(CALL, LAMP)
    changed = await items.update(CALL, patch(lamp.id, price=0.0))
    assert changed == lamp._replace(price=0.0, version=2, updated_at=changed.updated_at)
    assert changed.updated_at >= lamp.updated_at
    assert await items.update(CALL, patch(lamp.id, in_stock=False)) == await items.get(CALL, lamp.id)
    assert (await items.get(CALL, lamp.id))[1:6] == ("lamp", 0.0, False, None, 3)


async def test_a_change_that_names_nothing_changes_nothing(items: Store[Row]) -> None:
    lamp = await items.create(CALL, LAMP)
    assert await items.update(CALL, patch(lamp.id)) == lamp
    assert await items.update_many(CALL, [patch(lamp.id)]) == [lamp]
    assert await items.get(CALL, lamp.id) == lamp


async def test_bad_changes_fail_alone_and_the_others_of_their_batch_are_made(items: Store[Row]) -> None:
    added = await items.create_many(CALL, [LAMP] * 20)
    changes = [patch(row.id, name="" if row.id % 7 == 0 else "chair") for row in added]
    results = await together([items.update(CALL, change) for change in changes])
    assert kinds(results) == [InvalidValue if change.values["name"] == "" else Row for change in changes]
    assert [row.version for row in await items.get_many(CALL, [row.id for row in added])] == [
        1 if change.values["name"] == "" else 2 for change in changes
    ]


async def test_updates_and_deletions_distinguish_missing_from_stale(items: Store[Row]) -> None:
    ids = [row.id for row in await items.create_many(CALL, [LAMP] * 5)]
    await items.update(CALL, patch(ids[1], name="chair"))
    changes = [patch(ids[0], 1, name="a"), patch(ids[1], 1, name="b"), patch(99, 1, name="c"), patch(98, name="d")]
    assert kinds(await together(list(map(partial(items.update, CALL), changes)))) == [
        Row,
        VersionMismatch,
        NotFound,
        NotFound,
    ]
    deletions = [
        Deletion(ids[0], 1),
        Deletion(ids[1], 2),
        Deletion(ids[2]),
        Deletion(99, 1),
        Deletion(98),
    ]
    assert kinds(await together(list(map(partial(items.delete, CALL), deletions)))) == [
        VersionMismatch,
        type(None),
        type(None),
        NotFound,
        NotFound,
    ]
    assert [row.id for row in await items.get_many(CALL, ids)] == [ids[0], ids[3], ids[4]]


async def test_what_was_asked_of_one_item_at_the_same_time_happens_once_each(items: Store[Row]) -> None:
    lamp = await items.create(CALL, LAMP)
    changed = await together([items.update(CALL, patch(lamp.id, name=str(n))) for n in range(50)])
    assert sorted(row.version for row in changed) == list(range(2, 52))
    at_version = await together([items.update(CALL, patch(lamp.id, 51, price=float(n))) for n in range(50)])
    assert sorted(kinds(at_version), key=str) == sorted([Row, *[VersionMismatch] * 49], key=str)
    assert set(await together([items.get(CALL, lamp.id) for _ in range(50)])) == set(
        await items.get_many(CALL, [lamp.id])
    )
    deleted = await together([items.delete(CALL, Deletion(lamp.id)) for _ in range(50)])
    assert sorted(kinds(deleted), key=str) == sorted([type(None), *[NotFound] * 49], key=str)


async def test_in_a_coalesced_batch_changes_of_one_item_are_made_in_their_order(database: Database) -> None:
    async with opened_items(database) as items:
        lamp = await items.create(CALL, LAMP)
        changed = await together([items.update(CALL, patch(lamp.id, name=str(n))) for n in range(9)])
        assert [(row.name, row.version) for row in changed] == [(str(n), n + 2) for n in range(9)]


async def test_reading_a_batch_leaves_out_what_is_not_there_in_the_order_of_the_ids(items: Store[Row]) -> None:
    added = await items.create_many(CALL, [LAMP] * 3)
    assert [row.id for row in await items.get_many(CALL, [3, 99, 1, 2**63 - 1, 3])] == [3, 1, 3]
    assert kinds(await together([items.get(CALL, added[0].id), items.get(CALL, 99)])) == [Row, NotFound]


async def test_deleting_a_batch_names_those_that_were_there(items: Store[Row], database: Database) -> None:
    await items.create_many(CALL, [LAMP] * 5)
    assert await items.delete_many(CALL, [4, 99, 1, 3]) == [4, 1, 3]
    assert await items.delete_many(CALL, [4, 99, 1, 3]) == []
    assert [row[0] for row in await everything(database)] == [2, 5]


@pytest.mark.parametrize(
    ("last", "word", "named"),
    [
        (patch(99, name="x"), NotFound, (99,)),
        (patch(3, 7, name="x"), VersionMismatch, (3,)),
        (patch(3, name=""), InvalidValue, None),
    ],
    ids=["unknown", "stale", "refused"],
)
async def test_updating_a_batch_updates_all_or_nothing(
    items: Store[Row], database: Database, last: Patch, word: type[Exception], named: tuple[int, ...] | None
) -> None:
    await items.create_many(CALL, [LAMP] * 3)
    before = await everything(database)
    with pytest.raises(word) as caught:
        await items.update_many(CALL, [patch(2, 1, name="chair"), patch(1, price=1.0), last])
    assert getattr(caught.value, "ids", None) == named
    assert await everything(database) == before
    changed = await items.update_many(CALL, [patch(2, 1, name="chair"), patch(1, price=1.0)])
    assert [(row.id, row.name, row.price, row.version) for row in changed] == [
        (2, "chair", 9.5, 2),
        (1, "lamp", 1.0, 2),
    ]


async def test_an_id_is_never_given_out_twice(items: Store[Row]) -> None:
    first = await items.create(CALL, LAMP)
    await items.delete(CALL, Deletion(first.id))
    assert (await items.create(CALL, LAMP)).id > first.id


VALUES = {
    "no name": "(NULL, 1, true, 1)",
    "an empty name": "('', 1, true, 1)",
    "a long name": f"('{'x' * 256}', 1, true, 1)",
    "no price": "('x', NULL, true, 1)",
    "a negative price": "('x', -0.01, true, 1)",
    "an infinite price": "('x', {infinity}, true, 1)",
    "a negative infinite price": "('x', -{infinity}, true, 1)",
    "no number for a price": "('x', {nan}, true, 1)",
    "nobody knows whether in stock": "('x', 1, NULL, 1)",
    "version 0": "('x', 1, true, 0)",
}
NOT_FINITE = {"sqlite": {"infinity": "9e999", "nan": "(9e999 - 9e999)"}}
NOT_FINITE["memory"] = NOT_FINITE["sqlite"]
NOT_FINITE["postgresql"] = {"infinity": "'Infinity'::float8", "nan": "'NaN'::float8"}


async def test_the_table_itself_refuses_what_is_no_item(database: Database, backend: str) -> None:
    accepted = []
    for what, values in VALUES.items():
        sql = f"INSERT INTO items (name, price, in_stock, version) VALUES {values}"  # noqa: S608
        with suppress(InvalidValue), translate_errors():
            async with database.engine.begin() as connection:
                await connection.exec_driver_sql(sql.format(**NOT_FINITE[backend]))
            accepted.append(what)
    assert accepted == []
    assert await everything(database) == []
