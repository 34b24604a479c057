"""Migrations: bring the schema of a database to another revision."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from db.engines.database import Database, is_lost, translate_errors
from db.errors import MigrationRefused, NoSuchRevision, SchemaMismatch, StatementFailed, error_class
from db.revisions import Action, head
from db.schema import read_schema

log = logging.getLogger(__name__)

INSUFFICIENT_PRIVILEGE = "42501"  # a SQLSTATE of PostgreSQL
# Those of a table, a column or an index that is there already, or is not there; SQLite has one code for all.
UNEXPECTED = {"42P07", "42701", "42710", "42P01", "42703", None}
NOT_OURS = {None, SchemaMismatch, StatementFailed}  # errors of reading the revision
RIGHT = "grant CREATE on the schema, or migrate as the owner of its tables"
FOREIGN = "the schema is not what the service's migrations made; use a database, or a schema, of the service's own"


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision, in one transaction, unless it is there, or newer by additions only.

    Raise NoSuchRevision or MigrationRefused.
    """
    await _migrate(database, "upgrade", revision, unless_usable=revision == "head")


async def downgrade(database: Database, revision: str) -> None:
    """Bring the schema down to a revision, in one transaction; "base" is before the first. Raise as `upgrade` does."""
    await _migrate(database, "downgrade", revision)


async def _migrate(database: Database, action: Action, revision: str, *, unless_usable: bool = False) -> None:
    passed: list[str] = []  # the revision that the schema is at, and those that it had reached before an error
    with translate_errors(), _refusals(passed):
        async with database.migration() as connection:
            database.check_version(connection.dialect.server_version_info or ())
            before = await connection.run_sync(read_schema)
            if before.is_usable and unless_usable:
                return
            if not before.is_known:
                raise NoSuchRevision(
                    f"the schema is at {before.revision}, which this version does not know, as {head()} is its newest:"
                    " only the version that made it can change it"
                )
            passed.append(before.revision)
            from db import steps  # noqa: PLC0415 - 8 MiB and 0.07 s, of those alone who change a schema

            await connection.run_sync(steps.run, action, revision, passed)
            after = await connection.run_sync(read_schema)
    if before.revision != after.revision:
        log.info("the schema was migrated from %s to %s", before.revision, after.revision)


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
