"""The audit log, read behind the service's back."""

from typing import Any, NamedTuple

from sqlalchemy import select

from db.engines.engine import open_database
from db.models import AuditRecord
from db.models import table as core_table

LOG = core_table(AuditRecord).c


class Record(NamedTuple):
    """A change, as it was recorded."""

    caller: int | None
    how: str
    action: str
    resource: str
    row_id: int
    changes: dict[str, Any]
    request_id: str | None


async def audit_log(database_url: str) -> list[Record]:
    """Return what was recorded, in its order."""
    database = open_database(database_url)
    found = select(LOG.caller, LOG.how, LOG.action, LOG.resource, LOG.row_id, LOG.changes, LOG.request_id)
    try:
        async with database.engine.connect() as connection:
            return [Record(*row) for row in await connection.execute(found.order_by(LOG.id))]
    finally:
        await database.close()


async def what(database_url: str) -> list[tuple[str, str, int, dict[str, Any]]]:
    """Return what was changed."""
    return [(each.action, each.resource, each.row_id, each.changes) for each in await audit_log(database_url)]
