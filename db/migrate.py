"""Brings a database's schema to the revision that this code wants."""

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, String, column, select, table

from db.batching.batcher import Batcher
from db.batching.queue import Limits
from db.engines.database import Connection as BatchConnection
from db.engines.database import Database, translate_errors
from db.errors import NoSuchRevision, SchemaMismatch

log = logging.getLogger(__name__)


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def head() -> str:
    """Return the revision that this code wants."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up, in one transaction; nothing happens if it is there already. Raises NoSuchRevision."""
    await _migrate(database, partial(command.upgrade, revision=revision))


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down, in one transaction; "base" is before the first revision. Raises NoSuchRevision."""
    await _migrate(database, partial(command.downgrade, revision=revision))


async def _migrate(database: Database, run: Callable[[Config], None]) -> None:
    with translate_errors():
        async with database.locks.to_write, database.engine.begin() as connection:
            await database.lock_schema(connection)
            before = await connection.run_sync(_revision)
            try:
                await connection.run_sync(lambda sync: run(_config(sync)))
            except CommandError as error:
                raise NoSuchRevision(str(error)) from error
            after = await connection.run_sync(_revision)
    if before != after:
        log.info("the schema went from %s to %s", before or "base", after or "base")


async def current(database: Database) -> str | None:
    """Return the revision that the database is at; None before the first. Raises Unavailable."""
    with translate_errors():
        async with database.engine.connect() as connection:
            return await connection.run_sync(_revision)


def probe(database: Database) -> Batcher[BatchConnection, None, str | None]:
    """Make a batcher on which `current` can be asked as often as one likes. Raises Unavailable."""
    version = column("version_num", String())
    statement = database.statement(select(version).select_from(table("alembic_version", version)))

    async def run(connection: BatchConnection, askers: Sequence[None], _token: bytes) -> list[str | None]:
        try:
            rows = await connection.fetch(statement, {})
        except SchemaMismatch:
            rows = []
        return [rows[0][0] if rows else None for _ in askers]

    return Batcher("probe", database.connect, run, Limits(), deduplicate=True, idempotent=True)
