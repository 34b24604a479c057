"""The database as commands use it: for as long as they last."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from db.engines.database import Database, Options
from db.engines.engine import open_database
from db.schema import Schema, current_schema
from service.settings import Settings

T = TypeVar("T")

# A migration may rewrite a table: it is not a request.
MIGRATION_TIMEOUT_MS = 3_600_000


async def with_database(
    settings: Settings,
    use: Callable[[Database], Awaitable[T]],
    statement_timeout_ms: int = MIGRATION_TIMEOUT_MS,
) -> T:
    """Return the result of `use`, called with a database whose statements may take so long: an hour, by default."""
    options = Options(
        connect_timeout_ms=settings.connect_timeout_ms,
        statement_timeout_ms=statement_timeout_ms,
        pgbouncer=settings.pgbouncer,
        echo=settings.debug,
    )
    database = open_database(settings.database_url, options)
    try:
        return await use(database)
    finally:
        await database.close()


async def look(database: Database) -> tuple[str, Schema, str, int | None]:
    """Return the version, the schema, advice or "", and how many connections the server has, if it tells."""
    version, schema = await database.version(), await current_schema(database)
    return version, schema, await database.advice(), await database.connections_max()


def unusable(settings: Settings) -> str:
    """Return what is wrong, which an error follows."""
    return f"The database {settings.described()[0].value} cannot be used"
