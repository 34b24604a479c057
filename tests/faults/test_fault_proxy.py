"""The proxy in front of PostgreSQL does what it says, exactly where it says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from db.engines.engine import open_database
from tests.faults.proxy import Proxy
from tests.support.responses import execute
from tests.support.waiting import LIMIT_S, PAUSE_S, until

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

INSERT = "INSERT INTO items (name, price) VALUES ($1, 1)"
LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, DBAPIError)
PHASES = ["before", "during", "after"]

Driver = Any  # asyncpg's connection
Write = Callable[[str, str], Awaitable[None]]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    url = make_url(database_url)
    with Proxy(str(url.host), url.port or 5432, seed=1) as proxy:
        yield proxy


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Driver]:
    """Connect with the driver alone."""
    driver = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        yield driver
    finally:
        driver.terminate()


async def names(database_url: str) -> list[str]:
    """Return the names of all items, read past the proxy."""
    return [name for (name,) in await execute(database_url, "SELECT name FROM items ORDER BY id")]


async def insert(url: str, name: str) -> None:
    """Write by a statement that is prepared and commits by itself."""
    async with connected(url) as driver:
        await driver.execute(INSERT, name)


async def insert_again(url: str, name: str) -> None:
    """Write by a statement that was prepared and used before."""
    async with connected(url) as driver:
        statement = await driver.prepare(f"{INSERT} RETURNING id, $2::boolean")
        await driver.fetch("SELECT id FROM items FOR UPDATE")
        await statement.fetch(name, True)


async def insert_simply(url: str, name: str) -> None:
    """Write by a simple query."""
    async with connected(url) as driver:
        await driver.execute(INSERT.replace("$1", f"'{name}'"))


async def insert_many(url: str, name: str) -> None:
    """Write by many executions before one Sync."""
    async with connected(url) as driver:
        await driver.executemany(INSERT, [(name,)])


async def insert_in_a_transaction(url: str, name: str) -> None:
    """Write in a transaction of the driver, which reads as well."""
    async with connected(url) as driver, driver.transaction():
        await driver.execute(INSERT, name)
        await driver.fetch("SELECT id FROM items")


async def insert_in_a_script(url: str, name: str) -> None:
    """Write in a transaction that is one simple query."""
    async with connected(url) as driver:
        await driver.execute(f"BEGIN; {INSERT.replace('$1', repr(name))}; COMMIT")


async def insert_by_sqlalchemy(url: str, name: str) -> None:
    """Write in a transaction of SQLAlchemy."""
    database = open_database(url)
    try:
        async with database.engine.begin() as connection:
            await connection.execute(text("INSERT INTO items (name, price) VALUES (:name, 1)"), {"name": name})
    finally:
        await database.close()


WRITES: list[Write] = [
    insert,
    insert_again,
    insert_simply,
    insert_many,
    insert_in_a_transaction,
    insert_in_a_script,
    insert_by_sqlalchemy,
]


@pytest.mark.parametrize("write", WRITES)
async def test_a_cut_is_where_it_is_wanted_and_comes_once(database_url: str, proxy: Proxy, write: Write) -> None:
    expected: list[str] = []
    for phase in PHASES:
        for drop in ("reset", "close"):
            proxy.set(drop=drop)
            proxy.cut(phase)  # type: ignore[arg-type]
            with pytest.raises(LOST):
                await write(proxy.url(database_url), f"{phase} {drop}")
            expected += [f"{phase} {drop}"] * (phase != "before")
            await until(lambda: proxy.connections.open == 0)
            if phase == "during":
                async with asyncio.timeout(LIMIT_S):
                    while await names(database_url) != expected:  # noqa: ASYNC110 - the server is not done yet
                        await asyncio.sleep(PAUSE_S)
            assert await names(database_url) == expected, phase
    assert proxy.armed == 0
    assert [cut.phase for cut in proxy.cuts] == sorted(PHASES * 2, key=PHASES.index)
    assert all("INSERT INTO items" in cut.sql for cut in proxy.cuts)
    await write(proxy.url(database_url), "lamp")
    assert await names(database_url) == [*expected, "lamp"]


async def test_what_commits_nothing_is_not_cut(database_url: str, proxy: Proxy) -> None:
    proxy.cut("before", count=3)
    async with connected(proxy.url(database_url)) as driver:
        await driver.execute("SET statement_timeout = 1000")
        await driver.fetch("SELECT 'INSERT INTO items' /* DELETE FROM items */ FROM items WHERE name = $1", "lamp")
        await driver.fetch("SELECT * FROM items FOR UPDATE")
        transaction = driver.transaction()
        await transaction.start()
        await driver.execute(INSERT, "lamp")
        await transaction.rollback()
        await driver.execute("BEGIN")
        with pytest.raises(asyncpg.PostgresError):
            await driver.execute(INSERT, "")
        await driver.execute("COMMIT")  # which is a rollback
    assert (proxy.cuts, proxy.armed) == ([], 3)


async def test_a_cut_can_be_kept_for_some_statements(database_url: str, proxy: Proxy) -> None:
    await execute(database_url, "CREATE TABLE notes (note text)")
    proxy.cut("after", matching="(?i)into items")
    async with connected(proxy.url(database_url)) as driver:
        await driver.execute("INSERT INTO notes VALUES ($1)", "first")
        async with driver.transaction():
            await driver.execute("INSERT INTO notes VALUES ($1)", "second")
        transaction = driver.transaction()
        await transaction.start()
        await driver.execute(INSERT, "lamp")
        await driver.execute("INSERT INTO notes VALUES ($1)", "third")
        with pytest.raises(LOST):
            await transaction.commit()
    assert await names(database_url) == ["lamp"]
    [cut] = proxy.cuts
    assert cut.sql.split("; ") == ["BEGIN;", INSERT, "INSERT INTO notes VALUES ($1)", "COMMIT;"]


async def test_a_write_that_fails_is_answered_and_the_cut_waits_for_one_that_does_not(
    database_url: str, proxy: Proxy
) -> None:
    proxy.cut("after")
    async with connected(proxy.url(database_url)) as driver:
        with pytest.raises(asyncpg.CheckViolationError):
            await driver.execute(INSERT, "")
        assert (proxy.cuts, proxy.armed) == ([], 1)
        with pytest.raises(LOST):
            await driver.execute(INSERT, "lamp")
    assert await names(database_url) == ["lamp"]


async def test_a_server_goes_on_with_what_was_cut_during_it(database_url: str, proxy: Proxy) -> None:
    slow = "INSERT INTO items (name, price) SELECT 'lamp', 1 FROM pg_sleep(0.2)"
    proxy.cut("during")
    async with connected(proxy.url(database_url)) as driver:
        await driver.execute("SET client_connection_check_interval = '10ms'")  # it would stop, if it knew
        with pytest.raises(LOST):
            await driver.execute(slow)
    assert await names(database_url) == []
    async with asyncio.timeout(LIMIT_S):
        while await names(database_url) != ["lamp"]:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(PAUSE_S)


async def test_latency_delays_and_neither_reorders_nor_limits(database_url: str, proxy: Proxy) -> None:
    async with connected(proxy.url(database_url)) as driver:
        await driver.fetch("SELECT 1")
        proxy.set(latency_s=0.1)
        started = time.monotonic()
        rows = await driver.fetch("SELECT n, repeat('x', 1000) FROM generate_series(1, 10000) AS n")
        took_s = time.monotonic() - started
        assert 0.4 <= took_s < 8  # two round trips, to prepare and to execute; 10 MB, chunk after chunk, would take 16
        assert all(later[0] == earlier[0] + 1 for earlier, later in pairwise(rows))
        proxy.set(latency_s=60)
        waiting = asyncio.create_task(driver.fetch("SELECT 1"))
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        proxy.clear()  # for what waits already, too
        await asyncio.wait_for(waiting, 2)


async def test_a_slow_line_is_slow_until_it_is_not(database_url: str, proxy: Proxy) -> None:
    async with connected(proxy.url(database_url)) as driver:
        await driver.fetch("SELECT repeat('x', $1)", 1)
        proxy.set(bytes_per_s=100_000)
        started = time.monotonic()
        await driver.fetch("SELECT repeat('x', $1)", 20_000)
        assert 0.15 <= time.monotonic() - started < 2
        slow = asyncio.create_task(driver.fetch("SELECT repeat('x', $1)", 10_000_000))
        proxy.clear()
        await asyncio.wait_for(slow, 5)


@pytest.mark.parametrize("resuming", [False, True])
async def test_a_black_hole_takes_everything_and_ends(database_url: str, proxy: Proxy, resuming: bool) -> None:
    url = proxy.url(database_url)
    async with connected(url) as driver:
        await driver.execute("SELECT 1")
        proxy.set(black_hole=True, resuming=resuming)
        waiting = [asyncio.create_task(driver.execute(INSERT.replace("$1", "'lamp'")))]
        waiting.append(asyncio.create_task(insert(url, "lamp")))
        await until(lambda: proxy.connections.open == 2)
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert not done
        assert await names(database_url) == []
        proxy.set(black_hole=False)
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), LIMIT_S)
    assert [isinstance(result, LOST) for result in results] == [not resuming] * 2
    assert await names(database_url) == ["lamp", "lamp"] * resuming
    await insert(url, "last")


async def test_resets_come_at_their_share_and_leave_what_is_not_known(database_url: str, proxy: Proxy) -> None:
    proxy.set(reset_share=0.2)
    url, acknowledged = proxy.url(database_url), []
    for number in range(60):
        try:
            await insert(url, str(number))
            acknowledged.append(str(number))
        except LOST:
            continue
    proxy.clear()
    there = await names(database_url)
    assert set(acknowledged) <= set(there)
    assert set(there) - set(acknowledged)  # committed, without a response
    assert 5 < len(acknowledged) < 55
    await insert(url, "last")


async def test_all_can_be_reset_and_new_ones_refused(database_url: str, proxy: Proxy) -> None:
    url = proxy.url(database_url)
    async with connected(url) as first, connected(url) as second:
        assert proxy.connections == (2, 2)
        proxy.reset_all()
        for driver in (first, second):
            with pytest.raises(LOST):
                await driver.execute("SELECT 1")
    assert proxy.connections == (0, 2)
    proxy.set(refusing=True)
    with pytest.raises(LOST):
        await insert(url, "lamp")
    proxy.set(refusing=False)
    await insert(url, "lamp")
    assert proxy.connections.total == 3


@pytest.mark.parametrize(("drop", "cause"), [("reset", ConnectionResetError), ("close", type(None))])
async def test_a_cut_is_a_reset_or_an_end(database_url: str, proxy: Proxy, drop: str, cause: type) -> None:
    async with connected(proxy.url(database_url)) as driver:
        proxy.set(drop=drop)
        proxy.cut("before")
        with pytest.raises(asyncpg.ConnectionDoesNotExistError) as raised:
            await driver.execute(INSERT, "lamp")
        assert isinstance(raised.value.__cause__, cause)


async def test_a_statement_can_be_cancelled(database_url: str, proxy: Proxy) -> None:
    async with connected(proxy.url(database_url)) as driver:
        with pytest.raises(TimeoutError):
            await driver.fetch("SELECT pg_sleep(60)", timeout=0.1)
        assert await driver.fetchval("SELECT 1", timeout=LIMIT_S) == 1
    assert proxy.connections.total == 2


async def test_a_server_that_is_away_is_nobodys_fault(database_url: str) -> None:
    with Proxy("127.0.0.1", 1) as proxy:
        with pytest.raises(LOST):
            await insert(proxy.url(database_url), "lamp")
        await until(lambda: proxy.connections == (0, 1))
