"""The schema of a database: the revision that it is at, and whether this code can use it."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, String, column, inspect, select, table

from db.batching.batcher import Batcher
from db.batching.queue import Limits
from db.engines.database import BatchConnection, Database, translate_errors
from db.engines.privileges import NO_SCHEMA, described, described_excess, lacked_privileges, rewriting_privileges
from db.engines.statement import Statement
from db.errors import SchemaMismatch, StatementFailed
from db.models import ServedRevision
from db.models import table as core_table
from db.revisions import BASE, head, revisions
from db.tables.storage import Storage

VERSION_TABLE = "alembic_version"
VERSION = column("version_num", String())
REVISION = select(VERSION).select_from(table(VERSION_TABLE, VERSION))


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
        return self.revision in {BASE, *revisions()}


def read_schema(connection: Connection) -> Schema:
    """Return the schema by a connection of its own, without the privileges. Raise DBAPIError."""
    tables = inspect(connection)
    revision = (connection.scalar(REVISION) if tables.has_table(VERSION_TABLE) else None) or BASE
    if revision in {BASE, head()} or not tables.has_table(ServedRevision.__tablename__):
        return Schema(revision, revision == head())
    return Schema(revision, {revision, head()} <= set(connection.scalars(select(ServedRevision.revision))))


async def current_schema(database: Database) -> Schema:
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
                    return (await connection.run_sync(read_schema))._replace(lacked=lacked, excess=excess)
            except StatementFailed:
                return _unreadable(lacked)


def _unreadable(lacked: str) -> Schema:
    """Return the schema whose revision a role may not read: what the role lacks is then the obstacle."""
    return Schema("unreadable", is_usable=bool(lacked), lacked=lacked)


def probe(storage: Storage) -> Batcher[BatchConnection, None, Schema]:
    """Return a batcher whose members, all None, get the current schema; concurrent ones share its statements."""
    revision = storage.database.statement(REVISION)
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
