"""Migrations: up, down, at the same time, and by alembic's own tool; what they make is what the models say."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, MetaData, String, inspect, select, text
from sqlalchemy.exc import IntegrityError

from db import migrate, revisions, steps
from db.engines.database import Database
from db.engines.engine import open_database
from db.errors import Conflict, NoSuchRevision
from db.models import Base, ServedRevision
from db.schema import current_schema
from db.types import fold

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    database = open_database(empty_database_url)
    yield database
    await database.close()


def plain(index: Any) -> str:
    """Return an index as text: SQLite's predicate is an object of SQLAlchemy, which is equal to itself alone."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str(sorted({**index, "dialect_options": options}.items()))


def everything(connection: Connection) -> dict[str, Any]:
    """Describe every table, in a form that can be compared; the order of its parts makes no difference."""
    inspector = inspect(connection)
    on_sqlite = connection.dialect.name == "sqlite"
    sql = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
    autoincrement = connection.exec_driver_sql(sql).scalars().all() if on_sqlite else []
    return {
        table: {
            "columns": {each["name"]: {**each, "type": str(each["type"])} for each in inspector.get_columns(table)},
            "key": inspector.get_pk_constraint(table),
            "indexes": sorted(map(plain, inspector.get_indexes(table))),
            "checks": sorted(inspector.get_check_constraints(table), key=str),
            # Of the key of a column that was added later, SQLAlchemy does not find the name on SQLite.
            "foreign keys": [
                {**each, "name": not on_sqlite and each["name"]} for each in inspector.get_foreign_keys(table)
            ],
            "unique": sorted(inspector.get_unique_constraints(table), key=str),
            "uses no id twice": table in autoincrement,
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


async def test_an_upgrade_makes_what_the_models_describe(database: Database) -> None:
    assert (await current_schema(database)).revision == revisions.BASE
    await migrate.upgrade(database)
    assert (await current_schema(database)).revision == revisions.head()
    async with database.engine.connect() as connection:
        await connection.run_sync(lambda sync: command.check(steps.config(sync)))  # raises what it finds


def test_the_revisions_are_those_that_alembic_finds() -> None:
    found = ScriptDirectory.from_config(steps.config()).walk_revisions()
    assert revisions.revisions() == tuple(script.revision for script in found)[::-1]


async def test_an_upgrade_makes_the_same_tables_as_the_models_alone(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        migrated = await connection.run_sync(everything)
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
        assert await connection.run_sync(everything) == migrated


async def test_another_text_of_a_check_makes_another_table(database: Database) -> None:
    changed = MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(changed)
    check = next(each for each in changed.tables["items"].constraints if each.name == "ck_items_price_finite")
    assert isinstance(check, CheckConstraint)
    check.sqltext = text("price >= 1")  # autogenerate compares the names alone
    await migrate.upgrade(database)
    async with database.engine.begin() as connection:
        migrated = await connection.run_sync(everything)
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(changed.create_all)
        assert await connection.run_sync(everything) != migrated


async def execute(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own, and return its rows."""
    async with database.engine.begin() as connection:
        return [tuple(row) for row in await connection.exec_driver_sql(sql)]


INSERT_ITEM = "INSERT INTO items (name, price) VALUES ('lamp', 1) RETURNING id"
OWNED_ITEM = "INSERT INTO items (name, price, owner_id) VALUES ('lamp', 1, (SELECT id FROM users)) RETURNING id"
INSERT_USER = "INSERT INTO users (username, email, email_folded, name) VALUES ('ann', 'A@b', 'a@b', 'Ann') RETURNING id"


async def test_items_get_owners_and_lose_them_but_stay_and_never_use_an_id_twice(database: Database) -> None:
    await migrate.upgrade(database, "0001")
    assert [await execute(database, INSERT_ITEM) for _ in range(2)] == [[(1,)], [(2,)]]
    await execute(database, "DELETE FROM items WHERE id = 2 RETURNING id")
    await migrate.upgrade(database, "0002")
    assert await execute(database, "SELECT id, name, owner_id FROM items") == [(1, "lamp", None)]
    assert await execute(database, INSERT_ITEM) == [(3,)]
    assert await execute(database, INSERT_USER) == [(1,)]
    assert await execute(database, "UPDATE items SET owner_id = 1 WHERE id = 1 RETURNING id") == [(1,)]
    for sql in ("UPDATE items SET owner_id = 2 RETURNING id", "DELETE FROM users RETURNING id"):
        with pytest.raises(IntegrityError):
            await execute(database, sql)
    await execute(database, "DELETE FROM items WHERE id = 3 RETURNING id")
    await migrate.downgrade(database, "0001")
    assert await execute(database, "SELECT id, name FROM items") == [(1, "lamp")]
    assert await execute(database, INSERT_ITEM) == [(4,)]


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
        assert (await current_schema(database)).revision == revisions.BASE


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
    with pytest.raises(NoSuchRevision, match="9999, which this version does not know"):
        await migrate.upgrade(database)
    schema = await current_schema(database)
    assert (schema.revision, schema.is_usable) == ("9999", False)
    assert str(schema.obstacle).endswith(
        f": start the version that made it, or run its python -m service migrate downgrade {revisions.head()}"
    )


async def test_a_schema_records_whose_code_can_use_it(database: Database) -> None:
    async def served() -> set[str]:
        async with database.engine.connect() as connection:
            return set(await connection.scalars(select(ServedRevision.revision)))

    await migrate.upgrade(database, "0001")
    assert await served() == {"0001"}
    await migrate.upgrade(database, "0002")  # which is additive
    assert await served() == {"0001", "0002"}
    await migrate.downgrade(database, "0001")
    assert await served() == {"0001"}


@pytest.mark.parametrize("line", ["", "additve = True", "additive = 'yes'"])
async def test_a_revision_has_to_say_whether_it_only_adds(
    database: Database, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(ROOT / "db" / "migrations", folder)
    script = folder / "versions" / "0002_users.py"
    script.write_text(script.read_text().replace("additive = True", line))

    def config(*passed: Any) -> Config:
        changed = as_it_is(*passed)
        changed.set_main_option("script_location", str(folder))
        return changed

    as_it_is = steps.config
    monkeypatch.setattr(steps, "config", config)
    await migrate.upgrade(database, "0001")
    with pytest.raises(NoSuchRevision, match="0002 has no `additive = True` or `additive = False`"):
        await migrate.upgrade(database)
    assert (await current_schema(database)).revision == "0001"


class StrayError(Exception):
    """Raised in the middle of a migration."""


async def test_a_migration_that_fails_leaves_nothing_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: Config, revision: str) -> None:
        command.upgrade(config, revision)
        raise StrayError

    with monkeypatch.context() as patched:
        patched.setitem(steps.ACTIONS, "upgrade", fail)
        with pytest.raises(StrayError):
            await migrate.upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(relations) == set()
    await migrate.upgrade(database)


async def test_five_upgrades_at_once_all_succeed(empty_database_url: str) -> None:
    databases = [open_database(empty_database_url) for _ in range(5)]
    for _ in range(3):
        await asyncio.gather(*map(migrate.upgrade, databases))
        schemas = await asyncio.gather(*map(current_schema, databases))
        assert {schema.revision for schema in schemas} == {revisions.head()}
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


def test_every_relationship_is_loaded_only_where_a_query_asks_for_it() -> None:
    found = {str(each): each.lazy for mapper in Base.registry.mappers for each in mapper.relationships}
    assert found == {"User.items": "raise"}


@pytest.mark.parametrize(
    ("given", "folded"),
    [
        ("Ann.Lee@Example.ORG", "ann.lee@example.org"),
        ("Straße", "straße"),
        ("STRAẞE", "straße"),  # not "strasse": each character becomes one
        ("İI", "İi"),  # nor the Turkish dotless one
        ("ΣΟΦΌΣ Σοφός", "σοφόσ σοφόσ"),
        ("\u212a\u212b", "kå"),  # the signs of kelvin and ångström
        ("ﬁ", "ﬁ"),
        ("\u1f88", "\u1f80"),
        ("\u13a0\uab70\u13f8", "\u13a0\u13a0\u13f0"),  # Cherokee, whose capitals are the older letters
        ("µ", "μ"),
    ],
)
def test_case_is_folded_character_by_character(given: str, folded: str) -> None:
    assert fold(given) == folded
    assert fold(folded) == folded


def widen(connection: Connection) -> None:
    """Change a column of a table that others refer to; on SQLite that rebuilds it."""
    with Operations(MigrationContext.configure(connection)).batch_alter_table("users") as users:
        users.alter_column("role", type_=String(32))


async def test_a_table_that_others_refer_to_can_be_rebuilt(database: Database) -> None:
    await migrate.upgrade(database)
    [(user,)] = await execute(database, INSERT_USER)
    await execute(database, OWNED_ITEM)
    async with database.migration() as connection:
        await connection.run_sync(widen)
    assert await execute(database, "SELECT owner_id FROM items") == [(user,)]
    with pytest.raises(IntegrityError):  # the key is enforced again
        await execute(database, OWNED_ITEM.replace("(SELECT id FROM users)", "99"))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # PostgreSQL checks each statement
async def test_a_migration_that_leaves_a_reference_to_nothing_is_undone(database: Database) -> None:
    await migrate.upgrade(database)
    [(user,)] = await execute(database, INSERT_USER)
    await execute(database, OWNED_ITEM)
    with pytest.raises(Conflict, match="refer to nothing"):
        async with database.migration() as connection:
            await connection.exec_driver_sql("DELETE FROM users")
    assert await execute(database, "SELECT id FROM users") == [(user,)]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_migration_that_is_cancelled_is_that_and_no_error(empty_database_url: str) -> None:
    database = open_database(empty_database_url)

    async def migrate_forever(begun: asyncio.Event) -> None:
        async with database.migration() as connection:
            await connection.exec_driver_sql("CREATE TABLE halfway (id INTEGER)")
            begun.set()
            await connection.exec_driver_sql(
                "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless WHERE n < 30000000)"
                " SELECT max(n) FROM endless"
            )

    begun = asyncio.Event()
    task = asyncio.create_task(migrate_forever(begun))
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.close()
