"""Migrations: bring the schema of a database to another revision, and read the revision it is at."""

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
from db.engines.database import BatchConnection, Database, translate_errors
from db.errors import NoSuchRevision, SchemaMismatch
from db.tables.storage import Storage

log = logging.getLogger(__name__)


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def head() -> str:
    """Return the newest revision, which this code is written for."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision, in one transaction; do nothing if it is there. Raise NoSuchRevision."""
    await _migrate(database, partial(command.upgrade, revision=revision))


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision, in one transaction; "base" is before the first. Raise NoSuchRevision."""
    await _migrate(database, partial(command.downgrade, revision=revision))


async def _migrate(database: Database, run: Callable[[Config], None]) -> None:
    with translate_errors():
        async with database.migration() as connection:
            before = await connection.run_sync(_revision)
            try:
                await connection.run_sync(lambda sync: run(_config(sync)))
            except CommandError as error:
                raise NoSuchRevision(str(error)) from error
            after = await connection.run_sync(_revision)
    if before != after:
        log.info("the schema was migrated from %s to %s", before or "base", after or "base")


async def current(database: Database) -> str | None:
    """Return the revision that the schema is at; None before the first. Raise Unavailable."""
    with translate_errors():
        async with database.engine.connect() as connection:
            return await connection.run_sync(_revision)


def probe(storage: Storage) -> Batcher[BatchConnection, None, str | None]:
    """Return a batcher whose members, all None, get what `current` returns; concurrent ones share one statement."""
    version = column("version_num", String())
    statement = storage.database.statement(select(version).select_from(table("alembic_version", version)))

    async def run(connection: BatchConnection, members: Sequence[None], _token: bytes) -> list[str | None]:
        try:
            rows = await connection.fetch(statement, {})
        except SchemaMismatch:
            rows = []
        return [rows[0][0] if rows else None for _ in members]

    return Batcher("schema revision", storage.connections, run, Limits(), deduplicate=True, idempotent=True)
