"""Refusals inside a transaction whose connection is lost at the worst time: they are found again, or stand."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import translate_errors
from db.engines.engine import open_database
from db.resources.users import USERS
from db.tables import refusals
from db.tables.statements import TableStatements
from db.transactions.idempotency import SessionConnection
from service.settings import Settings
from tests.support.responses import PATIENT, code, serving

ADA = {"username": "ada", "email": "ada@example.org", "name": "Ada"}
WITH_KEY = {"idempotency-key": "k"}

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(Settings(database_url=database_url, **PATIENT)) as client:
        assert (await client.post("/users", json=ADA)).status_code == 201
        yield client


async def end(session: AsyncSession, url: str) -> None:
    """End the server's process of a session."""
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    other = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    await other.execute("SELECT pg_terminate_backend($1, 1000)", pid)
    await other.close()


def once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, before: Callable[[AsyncSession], Any] | None, after: Any
) -> None:
    """Let something happen the first time that a statement of a transaction begins, or has ended."""
    run, left = getattr(owner, name), [1]

    async def interrupted(*arguments: Any) -> Any:
        sessions = [one._session for one in arguments if isinstance(one, SessionConnection)]
        happens = sessions and left and left.pop()
        if happens and before:
            await before(sessions[0])
        result = await run(*arguments)
        if happens and after:
            await after(sessions[0])
        return result

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("body", [ADA, [ADA]], ids=["one", "several"])
async def test_a_connection_that_is_lost_while_a_refusal_is_explained_changes_nothing_about_it(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch, body: object
) -> None:
    once(monkeypatch, refusals, "_flags", lambda session: end(session, database_url), None)
    assert code(await client.post("/users", json=body, headers=WITH_KEY)) == (409, "already-exists")
    again = await client.post("/users", json=body, headers=WITH_KEY)
    assert (code(again), again.headers["idempotency-replayed"]) == ((409, "already-exists"), "true")


async def test_an_explanation_that_takes_too_long_is_a_timeout(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_long(session: AsyncSession) -> None:
        with translate_errors():
            await session.execute(text("SET LOCAL statement_timeout = 1"))
            await session.execute(text("SELECT pg_sleep(10)"))

    once(monkeypatch, refusals, "_flags", take_long, None)
    assert code(await client.post("/users", json=ADA, headers=WITH_KEY)) == (504, "timeout")
    assert code(await client.post("/users", json=ADA, headers=WITH_KEY)) == (409, "already-exists")


async def test_a_refusal_stands_if_the_connection_is_lost_at_its_rollback(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(monkeypatch, TableStatements, "create_all", None, lambda session: end(session, database_url))
    assert code(await client.post("/users", json=[ADA])) == (409, "already-exists")
    assert len((await client.get("/users")).json()) == 1


async def test_rows_are_inserted_in_the_order_of_their_unique_values_so_that_workers_do_not_deadlock(
    database_url: str,
) -> None:
    database = open_database(database_url)
    users: TableStatements[Any] = TableStatements(database, USERS, lambda *columns: columns)
    names = ["cyd", "ada", "eve", "bob"]
    rows = [USERS.stored_row((name, f"{name}@x", name, "writer", True, None)) for name in names]
    async with database.connect(generic_plan=True) as connection:
        created: Any = await users.create(connection, rows)
    assert [row[1] for row in created] == names
    assert [row[1] for row in sorted(created)] == sorted(names)
    await database.close()
