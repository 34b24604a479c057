"""Migrations: up, down, at the same time, and by alembic's own tool; what they make is what the models say."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect

from db import migrate
from db.engines.database import Database
from db.engines.engine import open_database
from db.errors import NoSuchRevision
from db.models import Base

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    database = open_database(empty_database_url)
    yield database
    await database.close()


def everything(connection: Connection) -> dict[str, Any]:
    """Describe every table, in a form that can be compared."""
    inspector = inspect(connection)
    return {
        table: {
            "columns": [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table),
            "indexes": sorted(inspector.get_indexes(table), key=str),
            "checks": sorted(inspector.get_check_constraints(table), key=str),
            "foreign keys": inspector.get_foreign_keys(table),
            "unique": inspector.get_unique_constraints(table),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def relations(connection: Connection) -> set[str]:
    """Name whatever a database holds of ours."""
    sql = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
        "postgresql": "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    }
    return set(connection.exec_driver_sql(sql[connection.dialect.name]).scalars())


async def test_an_upgrade_makes_what_the_models_say(database: Database) -> None:
    assert await migrate.current(database) is None
    await migrate.upgrade(database)
    assert await migrate.current(database) == migrate.head()
    async with database.engine.connect() as connection:
        await connection.run_sync(lambda sync: command.check(migrate._config(sync)))  # raises what it finds


async def test_an_upgrade_makes_the_same_tables_as_the_models_alone(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        migrated = await connection.run_sync(everything)
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        assert await connection.run_sync(everything) == migrated


async def test_an_upgrade_that_was_made_already_changes_nothing(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO items (name, price) VALUES ('lamp', 1)")
        before = await connection.run_sync(relations)
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        assert await connection.run_sync(relations) == before
        assert (await connection.exec_driver_sql("SELECT name FROM items")).scalars().all() == ["lamp"]


async def test_a_downgrade_to_base_leaves_nothing_and_the_way_up_is_open_again(database: Database) -> None:
    for _ in range(2):
        await migrate.upgrade(database)
        await migrate.downgrade(database, "base")
        async with database.engine.connect() as connection:
            assert await connection.run_sync(relations) <= {"alembic_version", "alembic_version_pkc"}
        assert await migrate.current(database) is None


@pytest.mark.parametrize("revision", ["nowhere", "+7", "-1"])
async def test_a_revision_that_does_not_exist_changes_nothing(database: Database, revision: str) -> None:
    with pytest.raises(NoSuchRevision):
        await migrate.upgrade(database, revision)
    with pytest.raises(NoSuchRevision):
        await migrate.downgrade(database, revision)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(relations) == set()


async def test_a_database_that_is_ahead_of_the_code_is_left_alone(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NoSuchRevision, match="9999"):
        await migrate.upgrade(database)
    assert await migrate.current(database) == "9999"


class StrayError(Exception):
    """Raised in the middle of a migration."""


async def test_a_migration_that_fails_leaves_nothing_behind(database: Database) -> None:
    def fail(config: Config) -> None:
        command.upgrade(config, "head")
        raise StrayError

    with pytest.raises(StrayError):
        await migrate._migrate(database, fail)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(relations) == set()
    await migrate.upgrade(database)


async def test_five_upgrades_at_once_all_succeed(empty_database_url: str) -> None:
    databases = [open_database(empty_database_url) for _ in range(5)]
    for _ in range(3):
        await asyncio.gather(*map(migrate.upgrade, databases))
        assert set(await asyncio.gather(*map(migrate.current, databases))) == {migrate.head()}
        await asyncio.gather(*(migrate.downgrade(database, "base") for database in databases))
    for database in databases:
        await database.close()


def alembic(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
    )


def test_alembics_own_tool_finds_the_way(empty_database_url: str) -> None:
    upgraded = alembic(empty_database_url, "upgrade", "head")
    assert upgraded.returncode == 0, upgraded.stderr
    checked = alembic(empty_database_url, "check")
    assert (checked.returncode, checked.stdout.strip()) == (0, "No new upgrade operations detected."), checked.stderr
