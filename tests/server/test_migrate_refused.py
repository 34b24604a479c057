"""`migrate` where it cannot: one line that says why, exit code 1, and a schema that is as it was."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from db.engines.engine import open_database
from tests.server.test_command_line import Run, errors, run

__all__ = ["run"]

ROLE = "newcomer"


def execute(url: str, *statements: str) -> None:
    """Execute statements, and commit them."""

    async def work() -> None:
        database = open_database(url)
        try:
            async with database.engine.begin() as connection:
                for statement in statements:
                    await connection.exec_driver_sql(statement)
        finally:
            await database.close()

    asyncio.run(work())


def tables(url: str) -> set[str]:
    """Return the names of the tables that there are."""
    found: set[str] = set()

    async def work() -> None:
        database = open_database(url)
        sql = (
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            if url.startswith("postgresql")
            else "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        try:
            async with database.engine.connect() as connection:
                found.update((await connection.exec_driver_sql(sql)).scalars())
        finally:
            await database.close()

    asyncio.run(work())
    return found


FOREIGN = {
    "a table of this name": ["CREATE TABLE items (sku VARCHAR(9) PRIMARY KEY)"],
    "a second table of this name": ["CREATE TABLE commit_records (token VARCHAR(9) PRIMARY KEY)"],
    "an index of this name": [
        "CREATE TABLE things (name VARCHAR(9))",
        "CREATE INDEX ix_items_price_id ON things (name)",
    ],
    "a table of alembic's, of another project": [
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('4711abcd')",
    ],
    "a table of alembic's with other columns": ["CREATE TABLE alembic_version (revision INTEGER)"],
}


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN)
def test_a_schema_of_others_is_one_line_and_left_alone(
    run: Run, empty_database_url: str, statements: list[str]
) -> None:
    execute(empty_database_url, *statements)
    before = tables(empty_database_url)
    [error] = errors(run("migrate", DATABASE_URL=empty_database_url))
    assert "Traceback" not in error
    assert len(error) < 300
    assert tables(empty_database_url) == before


def test_a_step_that_fails_is_named_and_none_of_the_steps_before_it_remains(run: Run, empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE TABLE users (name VARCHAR(9))")
    result = run("migrate", DATABASE_URL=empty_database_url)
    [error] = errors(result)
    assert result.err.startswith("Nothing was changed:")
    assert "the step from 0001 failed, and the schema is at base: " in error
    assert "already exists" in error
    assert tables(empty_database_url) == {"users"}


@contextmanager
def newcomer(url: str) -> Iterator[str]:
    """Return the URL of a role that may connect, and owns nothing."""
    name = make_url(url).database
    execute(url, f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    try:
        yield make_url(url).set(username=ROLE, password="secret").render_as_string(hide_password=False)
    finally:
        execute(url, f"REVOKE ALL ON DATABASE {name} FROM {ROLE}", f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_role_that_may_not_create_is_one_line_that_names_the_right(run: Run, empty_database_url: str) -> None:
    with newcomer(empty_database_url) as url:
        [error] = errors(run("migrate", DATABASE_URL=url))
        assert "permission denied for schema public" in error
        assert "CREATE" in error


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_role_that_does_not_own_the_tables_is_one_line(run: Run, database_url: str) -> None:
    with newcomer(database_url) as url:
        for command in (("migrate",), ("migrate", "downgrade", "base")):
            [error] = errors(run(*command, DATABASE_URL=url))
            assert "permission denied" in error
            assert "alembic_version" in error
        execute(database_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}")
        assert run("migrate", DATABASE_URL=url).code == 0  # there is nothing to do
        [error] = errors(run("migrate", "downgrade", "base", DATABASE_URL=url))
        assert "must be owner of" in error


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_table_that_is_a_view_is_one_line(run: Run, empty_database_url: str, tmp_path: Path) -> None:
    execute(empty_database_url, "CREATE VIEW items AS SELECT 1 AS id")
    [error] = errors(run("migrate", DATABASE_URL=empty_database_url))
    assert "items" in error
    assert list(tmp_path.iterdir())
