"""The audit log: who changed which row of an audited table, when, and by which request."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import Connection, Database
from db.errors import SerializationFailure
from db.models import AuditRecord
from db.models import table as core_table
from db.tables.call import Call, Origin
from db.tables.table import Deletion, Patch, Reference, Row, Table

# Inline, as RETURNING would need the privilege to read what was written.
INSERT = insert(core_table(AuditRecord)).inline()
UNKNOWN = Origin("unknown")
TIMESTAMP_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"  # as responses have it

Values = dict[str, Any]


class Written(NamedTuple):
    """A write, the call that it belongs to, and its result: an exception if the row was left as it was."""

    call: Call
    write: Row | Patch | Deletion
    result: Any


class Before(NamedTuple):
    """What is known of the rows to change, by id, before they are: their fields, and what is deleted with each."""

    rows: dict[int, Values]
    deleted_with: dict[int, list[tuple[Reference, int]]]


class AuditLog:
    """Records the changes of a table's rows, in the transaction that makes them: all of it is committed, or nothing.

    The rows are locked before they are changed, in the order of their ids, so that the values recorded as old are
    those that were replaced.
    """

    def __init__(self, database: Database, table: Table) -> None:
        self._table = table
        self._values = frozenset(table.audited or ())
        self._ids = database.rows(id=BigInteger())
        columns = [table.core.c[name] for name in ("id", *table.row_fields)]
        found = select(*columns).where(self._ids.contains(table.core.c.id)).order_by(table.core.c.id)
        self._before_update = database.statement(found.with_for_update(key_share=True))
        self._before_delete = database.statement(found.with_for_update())
        self._cascades = [(one, database.statement(self._deleted_with(one))) for one in table.cascades_to]

    def _deleted_with(self, reference: Reference) -> Select[Any]:
        columns = reference.other.c
        found = select(columns[reference.column], columns.id).where(self._ids.contains(columns[reference.column]))
        return found.order_by(columns.id).with_for_update()

    async def before(self, connection: Connection, writes: Sequence[Any]) -> Before:
        """Lock the rows that writes are to change, and return what they are."""
        rows: list[Any] = []
        deleted_with: dict[int, list[tuple[Reference, int]]] = {}
        changed = sorted(write.id for write in writes if type(write) in {Patch, Deletion})
        deleted = sorted(write.id for write in writes if type(write) is Deletion)
        if changed:  # in one statement, so that two batches of both do not wait for each other
            lock = self._before_delete if deleted else self._before_update
            rows = await connection.fetch(lock, self._ids.bind([(id,) for id in changed]))
        if deleted:
            ids = self._ids.bind([(id,) for id in deleted])
            for reference, statement in self._cascades:
                for referred, id in await connection.fetch(statement, ids):
                    deleted_with.setdefault(referred, []).append((reference, id))
        return Before({id: dict(zip(self._table.row_fields, row, strict=True)) for id, *row in rows}, deleted_with)

    async def save(self, session: AsyncSession, before: Before, written: Iterable[Written]) -> None:
        """Record the writes that changed a row."""
        records = [
            record
            for each in written
            if not isinstance(each.result, Exception)
            for record in self._records(before, each)
        ]
        if records:
            await session.execute(INSERT, records)

    def _records(self, before: Before, written: Written) -> Iterable[Values]:
        call, write, result = written
        name = self._table.name
        if isinstance(write, Patch | Deletion) and write.id not in before.rows:
            raise SerializationFailure("the row has appeared since the rows to write were locked")
        if isinstance(write, Deletion):
            old = {field: value for field, value in before.rows[write.id].items() if field in self._values}
            yield _record(call, "delete", name, write.id, self._changes(old, {}))
            for reference, id in before.deleted_with.get(write.id, ()):
                yield _record(call, "delete", reference.other.name, id, {reference.column: [write.id, None]})
        elif isinstance(write, Patch):
            if write.values:
                changes = self._changes(before.rows[write.id], before.rows[write.id] | dict(write.values))
                yield _record(call, "update", name, write.id, changes)
        else:  # as it is stored, a row has folded values behind its own
            new = dict(zip(self._table.row_fields, write, strict=False))
            yield _record(call, "create", name, result.id, self._changes({}, new))

    def _changes(self, old: Values, new: Values) -> Values:
        """Return the fields whose values differ, each with [old, new] if its values are recorded, else None."""
        changed = {name: (old.get(name), new.get(name)) for name in (old | new) if old.get(name) != new.get(name)}
        return {name: list(map(_shown, pair)) if name in self._values else None for name, pair in changed.items()}


def _shown(value: Any) -> Any:
    return value.astimezone(UTC).strftime(TIMESTAMP_FORMAT) if isinstance(value, datetime) else value


def _record(call: Call, action: str, resource: str, row_id: int, changes: Values) -> Values:
    how, request_id = call.origin or UNKNOWN
    record = {"caller": call.caller, "how": how, "action": action, "resource": resource, "row_id": row_id}
    return record | {"changes": changes, "request_id": request_id}
