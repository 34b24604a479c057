"""The time limit of statements, which one timer for each connection watches, and what else a quick `fetch` keeps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from db.engines.quick_connection import QuickConnection
from tests.support.responses import execute
from tests.support.waiting import LIMIT_S

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"


@asynccontextmanager
async def quick(database_url: str, limit_s: float) -> AsyncIterator[Any]:
    """Open a connection with a time limit."""
    url = make_url(database_url)
    connection = await asyncpg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        database=url.database,
        command_timeout=limit_s,
        connection_class=QuickConnection,
    )
    try:
        yield connection
    finally:
        await connection.close()


async def until_there_sleep(database_url: str, number: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await execute(database_url, SLEEPING) != [(number,)]:
            pass


async def test_a_statement_past_the_time_limit_is_cancelled_at_the_server(database_url: str) -> None:
    async with quick(database_url, limit_s=0.2) as connection:
        assert await connection.fetch("SELECT 1") == [(1,)]  # the timer that runs is that of an earlier statement
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT pg_sleep(60)")
        await until_there_sleep(database_url, 0)
        assert await connection.fetch("SELECT 1") == [(1,)]


async def test_a_task_that_is_cancelled_is_no_timeout(database_url: str) -> None:
    async with quick(database_url, limit_s=60) as connection:
        task = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)"))
        await until_there_sleep(database_url, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_there_sleep(database_url, 0)


async def test_a_connection_that_is_dropped_once_a_statement_is_prepared_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare: Any = vars(asyncpg.Connection)["_get_statement"]

    async def prepare_and_drop(connection: Any, *arguments: Any, **options: Any) -> Any:
        statement = await prepare(connection, *arguments, **options)
        connection.terminate()
        return statement

    async with quick(database_url, limit_s=60) as connection:
        monkeypatch.setattr(QuickConnection, "_get_statement", prepare_and_drop)
        with pytest.raises(asyncpg.InterfaceError):  # not an AttributeError, as of asyncpg 0.32's own
            await connection.fetch("SELECT 1")


async def test_a_statement_that_is_prepared_anew_is_within_the_time_limit(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database_url, "CREATE TABLE changed (number integer)")

    async def wait(*_: object) -> None:
        await asyncio.sleep(LIMIT_S)

    async with quick(database_url, limit_s=0.2) as connection:
        await connection.fetch("SELECT number FROM changed")
        await execute(database_url, "ALTER TABLE changed ALTER number TYPE bigint")
        monkeypatch.setattr(asyncpg.Connection, "fetch", wait)
        with pytest.raises(TimeoutError):
            await connection.fetch("SELECT number FROM changed")
