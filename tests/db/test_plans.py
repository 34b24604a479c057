"""Plans: on a large table every statement goes by an index, and reads no more than it must."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import product
from operator import attrgetter
from typing import Any

import pytest
from msgspec.structs import replace

from db.engines.commit_records import TOKEN
from db.engines.database import Connection, Database
from db.engines.engine import open_database
from db.engines.statement import Statement
from db.resources.items import ITEMS
from db.tables.batched_pages import PAGES_MAX
from db.tables.pagination import Query
from db.tables.statements import TableStatements
from db.tables.table import Deletion
from tests.support.stores import NewRow, Row, patch

ROWS = 24_000  # as below
LIMIT = 100
ORDERS: list[str] = ["id", "name", "price", "created_at"]
FIRST = {"id": 1, "name": "a", "price": 0.0, "created_at": datetime(2020, 1, 1, tzinfo=UTC)}

FILL = {
    "sqlite": """
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 24000)
        INSERT INTO items (name, price, in_stock, created_at)
        SELECT printf('item %05d', n * 7919 % 24000), n * 104729 % 24000, n % 2,
               strftime('%Y-%m-%d %H:%M:%f000', '2020-01-01', (n * 15485863 % 24000) || ' seconds')
        FROM numbers""",
    "postgresql": """
        INSERT INTO items (name, price, in_stock, created_at)
        SELECT 'item ' || lpad((n * 7919 % 24000)::text, 5, '0'), n * 104729 % 24000, n % 2 = 1,
               timestamptz '2020-01-01 00:00:00Z' + (n * 15485863 % 24000) * interval '1 second'
        FROM generate_series(1::bigint, 24000) n""",
}
READ = "SELECT seq_tup_read + idx_tup_fetch, seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'items'"


class ExplainedConnection:
    """A connection that remembers the plan of what it runs, and how many rows of the table that read."""

    autocommits = True

    def __init__(self, connection: Connection, driver: Any, dialect: str) -> None:
        self._connection = connection
        self._driver = driver
        self._dialect = dialect
        self.plan: list[str] = []
        self.read = 0

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Explain a statement, and run it."""
        arguments = statement.arguments({TOKEN: token, **values} if statement.writes else values)
        if self._dialect == "sqlite":
            lines = await self._driver.execute_fetchall(f"EXPLAIN QUERY PLAN {statement.sql}", arguments)
            self.plan += [line[3] for line in lines]
            return await self._connection.fetch(statement, values, token)
        self.plan += [line[0] for line in await self._driver.fetch(f"EXPLAIN {statement.sql}", *arguments)]
        async with self._driver.transaction():
            before = (await self._driver.fetch(READ))[0]
            rows = await self._connection.fetch(statement, values, token)
            after = (await self._driver.fetch(READ))[0]
        self.read += after[0] - before[0]
        self.plan += ["Seq Scan on items"] * (after[1] - before[1])  # as it was run, which is not always as explained
        return rows

    def scans(self) -> list[str]:
        """Return the lines of the plans that read the whole table, or sort what they find; forget them all."""
        plan, self.plan, self.read = self.plan, [], 0
        marks = ("Seq Scan on items", "SCAN items", "USE TEMP B-TREE")
        return [line for line in plan if any(mark in line for mark in marks) and "SCAN items USING INDEX" not in line]


async def fill(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(FILL[connection.dialect.name])


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    await fill(database)
    async with database.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("ANALYZE items")
    yield database
    await database.close()


@pytest.fixture
def items(database: Database) -> TableStatements[Row]:
    return TableStatements(database, ITEMS, Row)


@asynccontextmanager
async def explained(database: Database, *, generic_plan: bool) -> AsyncIterator[ExplainedConnection]:
    async with database.connect(generic_plan=generic_plan) as connection:
        driver = getattr(connection, "_driver")  # noqa: B009 - every connection has one, and shows none
        yield ExplainedConnection(connection, driver, database.engine.dialect.name)


async def ends(items: TableStatements[Row], connection: Connection, order: str) -> list[tuple[Any, int]]:
    """Return where pages may begin, all over the table."""
    rows = await items.get(connection, range(1, ROWS, ROWS // 12))
    return [(getattr(row, order), row.id) for row in rows if isinstance(row, Row)]


async def test_a_page_reads_itself_at_any_depth_and_sorts_nothing(
    items: TableStatements[Row], database: Database
) -> None:
    async with explained(database, generic_plan=False) as connection:
        for order, descending in product(ORDERS, [False, True]):
            depths: list[tuple[Any, int] | None] = [None, *sorted(await ends(items, connection, order))]
            for end in depths:  # beyond the fifth PostgreSQL may keep the plan
                connection.scans()
                page = await items.page(connection, Query(order, descending, end, LIMIT))
                values = [(getattr(row, order), row.id) for row in page.rows]
                assert values == sorted(values, reverse=descending)
                assert all(end is None or ((value < end) if descending else (value > end)) for value in values)
                assert connection.read <= 2 * LIMIT  # twice at the very end, where the planner likes to sort
                # In the order of its ids SQLite keeps the table itself.
                assert set(connection.scans()) <= ({"SCAN items"} if order == "id" and end is None else set())


async def read(items: TableStatements[Row], connection: Connection, queries: list[Query]) -> list[tuple[Any, bool]]:
    """Return the rows of pages, and whether there are more."""
    return [(page.rows, page.more) for page in await items.pages(connection, queries, b"")]


async def test_pages_that_share_a_statement_are_ranges_of_an_index_also_by_a_plan_of_an_empty_table(
    database_url: str,
) -> None:
    database = open_database(database_url)
    items = TableStatements(database, ITEMS, Row)
    lists = [Query(order, descending, limit=LIMIT) for order, descending in product(ORDERS, [False, True])]
    async with explained(database, generic_plan=True) as connection:
        for query in lists * 7:
            following = replace(query, after=(FIRST[query.order], 1))
            for queries in ([query], [following], [following] * 3):
                await read(items, connection, queries)
        await fill(database)
        for query in lists:
            starts = [replace(query, after=end) for end in await ends(items, connection, query.order)]
            for queries in ([query], *([start] for start in starts), starts[:PAGES_MAX]):
                connection.scans()
                pages = await read(items, connection, queries)
                assert connection.read <= len(queries) * (LIMIT + 1)
                assert not [line for line in connection.plan if re.search("Sort|Bitmap|TEMP B-TREE", line)]
                # In the order of its ids SQLite keeps the table itself.
                is_whole = database_url.startswith("sqlite") and query.order == "id" and queries[0].after is None
                assert set(connection.scans()) <= ({"SCAN items"} if is_whole else set())
                for each, (rows, more) in zip(queries, pages, strict=True):
                    alone = await items.page(connection, each)
                    assert (rows, more) == (alone.rows, alone.more)
    await database.close()


FILTERS: list[dict[str, Any]] = [
    {"in_stock": True},
    {"price_min": 1000.0},
    {"price_max": ROWS - 1000.0},
    {"price_min": 1000.0, "price_max": ROWS - 1000.0},
    {"name_prefix": "item"},
    {"name_prefix": "item 00"},
    {"name_prefix": "item 00", "in_stock": False},
    {"price_min": 500.0, "price_max": 600.0},
    {"price_min": 500.0, "price_max": 600.0, "in_stock": True, "name_prefix": "item"},
    {"name_prefix": "nothing"},
]


def matches(row: Row, filters: dict[str, Any]) -> bool:
    return (
        filters.get("in_stock", row.in_stock) == row.in_stock
        and filters.get("price_min", 0) <= row.price <= filters.get("price_max", ROWS)
        and row.name.startswith(filters.get("name_prefix", ""))
    )


async def test_a_filtered_page_is_found_by_an_index_at_any_depth(
    items: TableStatements[Row], database: Database
) -> None:
    async with explained(database, generic_plan=False) as connection:
        rows = [row for row in await items.get(connection, range(1, ROWS + 1)) if isinstance(row, Row)]
        found = [(filters, [row for row in rows if matches(row, filters)]) for filters in FILTERS]
        for (filters, matching), order, descending in product(found, ORDERS, [False, True]):
            key = attrgetter(order, "id")
            matching.sort(key=key, reverse=descending)
            for depth in sorted({0, len(matching) // 2, len(matching) * 9 // 10}):
                connection.scans()
                end = key(matching[depth - 1]) if depth else None
                page = await items.page(
                    connection, Query(order, descending, end, LIMIT, filters=tuple(filters.items()))
                )
                assert page.rows == matching[depth : depth + LIMIT], (filters, order, descending, depth)
                # Few that match may be looked up and sorted; of many, a page is met on the way along the order.
                is_broad = len(matching) > ROWS / 3
                assert connection.read <= (3 * LIMIT if is_broad else ROWS / 4)
                allowed = {"SCAN items"} if order == "id" else set()
                assert set(connection.scans()) <= (allowed if is_broad else {"USE TEMP B-TREE FOR ORDER BY"})


def whole(connection: ExplainedConnection) -> list[str]:
    """Return the scans; to sort a batch is not to sort the table."""
    return [line for line in connection.scans() if line != "USE TEMP B-TREE FOR ORDER BY"]


async def use_every_verb(items: TableStatements[Row], connection: Connection, ids: Sequence[int]) -> None:
    await items.get(connection, ids)
    await items.create(connection, [NewRow("lamp", 1.0, in_stock=True)] * len(ids))
    await items.update(connection, [patch(id, name="x") for id in ids])
    await items.update(connection, [patch(id, 2, name="y") for id in ids])
    await items.update(connection, [patch(id, 2, name="z") for id in ids])  # stale
    await items.delete(connection, [Deletion(id, 2) for id in ids])  # stale
    await items.delete(connection, [Deletion(id, 3) for id in ids[::2]])
    await items.delete(connection, [Deletion(id) for id in ids])


async def test_verbs_find_their_rows_by_the_key(items: TableStatements[Row], database: Database) -> None:
    async with explained(database, generic_plan=True) as connection:
        for size, ids in ((1, [7]), (2, [8, 9]), (200, range(100, ROWS, 100))):
            await use_every_verb(items, connection, ids)
            assert connection.read <= 20 * size
            assert not whole(connection)


async def test_a_plan_that_was_made_on_an_empty_table_serves_a_large_one(database_url: str) -> None:
    database = open_database(database_url)
    items = TableStatements(database, ITEMS, Row)
    async with explained(database, generic_plan=True) as connection:
        for _ in range(7):
            await use_every_verb(items, connection, [1, 2])
            await use_every_verb(items, connection, [3])  # whose writes have plans of their own
        await fill(database)
        connection.scans()
        await use_every_verb(items, connection, [101, 102])
        await use_every_verb(items, connection, [103])
        assert connection.read <= 60
        assert not whole(connection)
    await database.close()
