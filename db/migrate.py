"""Migrations: bring the schema of a database to another revision, and read the revision it is at."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, String, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from db.batching.batcher import Batcher
from db.batching.queue import Limits
from db.engines.database import BatchConnection, Database, is_lost, translate_errors
from db.engines.privileges import NO_SCHEMA, described, described_excess, lacked_privileges, rewriting_privileges
from db.engines.statement import Statement
from db.errors import MigrationRefused, NoSuchRevision, SchemaMismatch, StatementFailed, error_class
from db.models import ServedRevision
from db.models import table as core_table
from db.tables.storage import Storage

log = logging.getLogger(__name__)


class Schema(NamedTuple):
    """The revision that a schema is at, "base" before the first, and whether this code can use it.

    It can use the schema of its own revision, and a newer one that differs from that by additions only. `lacked`
    describes the privileges on its tables that the role lacks, `excess` those on the audit log that it had better not
    have; "" for none.
    """

    revision: str
    is_usable: bool
    lacked: str = ""
    excess: str = ""

    @property
    def obstacle(self) -> str | None:
        """Why the service cannot become ready with this schema, and what to do; None if it can."""
        if self.is_usable:
            return self.lacked or None
        if self.is_known:
            return f"the schema is at {self.revision}, not at {head()}: run python -m service migrate"
        return (
            f"the schema is at {self.revision}, which does more than add to {head()}, the newest that this version"
            f" knows: start the version that made it, or run its python -m service migrate downgrade {head()}"
        )

    @property
    def is_known(self) -> bool:
        """Whether this code has the revision's migration."""
        return self.revision in {BASE, *(script.revision for script in _scripts().walk_revisions())}


BASE = "base"  # before the first revision
INSUFFICIENT_PRIVILEGE = "42501"  # a SQLSTATE of PostgreSQL
# Those of a table, a column or an index that is there already, or is not there; SQLite has one code for all.
UNEXPECTED = {"42P07", "42701", "42710", "42P01", "42703", None}
NOT_OURS = {None, SchemaMismatch, StatementFailed}  # errors of reading the revision
RIGHT = "grant CREATE on the schema, or migrate as the owner of its tables"
FOREIGN = "the schema is not what the service's migrations made; use a database, or a schema, of the service's own"


def _config(connection: Connection | None = None, passed: list[str] | None = None) -> Config:
    config = Config(attributes={"connection": connection, "passed": passed})
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")  # or it would stand for an option
    config.set_main_option("script_location", folder)
    return config


def _schema(connection: Connection) -> Schema:
    revision = MigrationContext.configure(connection).get_current_revision() or BASE
    if revision in {BASE, head()} or not inspect(connection).has_table(ServedRevision.__tablename__):
        return Schema(revision, revision == head())
    return Schema(revision, {revision, head()} <= set(connection.scalars(select(ServedRevision.revision))))


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


@cache
def head() -> str:
    """Return the newest revision, which this code is written for."""
    return str(_scripts().get_current_head())


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision, in one transaction, unless it is there, or newer by additions only.

    Raise NoSuchRevision or MigrationRefused.
    """
    await _migrate(database, partial(command.upgrade, revision=revision), unless_usable=revision == "head")


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision, in one transaction; "base" is before the first. Raise as `upgrade` does."""
    await _migrate(database, partial(command.downgrade, revision=revision))


async def _migrate(database: Database, run: Callable[[Config], None], *, unless_usable: bool = False) -> None:
    passed: list[str] = []  # the revision that the schema is at, and those that it had reached before an error
    with translate_errors(), _refusals(passed):
        async with database.migration() as connection:
            database.check_version(connection.dialect.server_version_info or ())
            before = await connection.run_sync(_schema)
            if before.is_usable and unless_usable:
                return
            if not before.is_known:
                raise NoSuchRevision(
                    f"the schema is at {before.revision}, which this version does not know, as {head()} is its newest:"
                    " only the version that made it can change it"
                )
            passed.append(before.revision)
            try:
                await connection.run_sync(lambda sync: run(_config(sync, passed)))
            except CommandError as error:
                raise NoSuchRevision(str(error)) from error
            after = await connection.run_sync(_schema)
    if before.revision != after.revision:
        log.info("the schema was migrated from %s to %s", before.revision, after.revision)


async def current(database: Database) -> Schema:
    """Return the schema. Raise Unavailable."""
    with translate_errors():
        async with database.engine.connect() as connection:
            database.check_version(connection.dialect.server_version_info or ())
            rows = await connection.execute(lacked_privileges()) if database.has_roles else ()
            lacked = described(rows)
            if lacked == NO_SCHEMA:
                return _unreadable(lacked)
            excess = described_excess(await connection.execute(rewriting_privileges()) if database.has_roles else ())
            try:
                with translate_errors():
                    return (await connection.run_sync(_schema))._replace(lacked=lacked, excess=excess)
            except StatementFailed:
                return _unreadable(lacked)


def _unreadable(lacked: str) -> Schema:
    """Return the schema whose revision a role may not read: what the role lacks is then the obstacle."""
    return Schema("unreadable", is_usable=bool(lacked), lacked=lacked)


@contextmanager
def _refusals(passed: Sequence[str]) -> Iterator[None]:
    """Raise MigrationRefused for a step that fails while the connection lives, SchemaMismatch if none can begin."""
    try:
        yield
    except DBAPIError as error:
        refusal: BaseException = error.orig or error
        if error.connection_invalidated or is_lost(refusal) or not (passed or error_class(refusal) in NOT_OURS):
            raise
        refusal = refusal.__cause__ or refusal  # the driver's own error: SQLAlchemy's text begins with its type
        state = getattr(refusal, "sqlstate", None)
        advice = f": {RIGHT}" if state == INSUFFICIENT_PRIVILEGE else f": {FOREIGN}" if state in UNEXPECTED else ""
        if not passed:
            raise SchemaMismatch(f"{refusal}{advice}") from error
        raise MigrationRefused(
            f"the step from {passed[-1]} failed, and the schema is at {passed[0]}: {refusal}{advice}"
        ) from error


def probe(storage: Storage) -> Batcher[BatchConnection, None, Schema]:
    """Return a batcher whose members, all None, get what `current` returns; concurrent ones share its statements."""
    version = column("version_num", String())
    revision = storage.database.statement(select(version).select_from(table("alembic_version", version)))
    served = storage.database.statement(select(core_table(ServedRevision).c.revision))
    privileges = storage.database.statement(lacked_privileges()) if storage.database.has_roles else None

    async def texts(connection: BatchConnection, statement: Statement) -> list[str]:
        try:
            return [text for (text,) in await connection.fetch(statement, {})]
        except SchemaMismatch:  # there is no such table
            return []

    async def run(connection: BatchConnection, members: Sequence[None], _token: bytes) -> list[Schema]:
        lacked = described(await connection.fetch(privileges, {})) if privileges else ""
        if lacked == NO_SCHEMA:
            return [_unreadable(lacked)] * len(members)
        try:
            at = (await texts(connection, revision) or [BASE])[0]
            is_usable = at == head() or (at != BASE and {at, head()} <= set(await texts(connection, served)))
        except StatementFailed:
            return [_unreadable(lacked)] * len(members)
        return [Schema(at, is_usable, lacked)] * len(members)

    return Batcher("schema", storage.connections, run, Limits(), deduplicate=True, idempotent=True)
