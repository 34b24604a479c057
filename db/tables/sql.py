"""The SQL of a table: one statement for each verb, whatever the size of its batch.

A verb that may meet an expected refusal has a second, guarded statement: it leaves out the rows whose unique values are
taken, that refer to what does not exist, or that are still referred to, so that one of them does not fail the batch.

A table whose rows have owners has two more, guarded, for batches with a member that may write one user's rows alone.
They leave out the rows of others in the SELECT that locks, so that no owner can change between the check and the write.
"""

from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    delete,
    exists,
    insert,
    literal_column,
    not_,
    or_,
    select,
    true,
    update,
)

from db.engines.database import Database
from db.engines.row_parameters import ORDINALITY
from db.engines.statement import Statement
from db.tables.table import FOLDED, Deletion, Patch, Reference, Table
from db.types import utc_now

MASK = "patch_mask"  # a bit for each field that is written
CALLER = "caller"  # the user whose rows, and those of nobody, may be written; NULL: every row
VACANT_CHARACTERS = 32

Guard = Callable[[Any], ColumnElement[bool]]  # the condition that a row of a row parameter is refused


class TableSQL:
    """The statements of a table, compiled when they run first, and the row parameters they read."""

    def __init__(self, database: Database, table: Table) -> None:
        self._table = table
        self._core = core = table.core
        self._bits = {name: 1 << bit for bit, name in enumerate(table.row_fields)}
        self._unique = [_vacatable(core.c[table.compared(name)]) for name in table.unique]
        self.ids = database.rows(id=BigInteger())
        self.new_rows = database.rows(**table.parameters)
        patched = {"id": BigInteger(), "version": BigInteger(), MASK: BigInteger(), **table.parameters}
        deleted = {"id": BigInteger(), "version": BigInteger()}
        self.patches, self.deletions = database.rows(**patched), database.rows(**deleted)

        self.guarded = (*table.unique, *(reference.column for reference in table.references))
        guards = [*map(self._taken, table.unique), *map(self._unknown, table.references)]
        referred = [_referred(reference) for reference in table.referenced_by]

        self.get = database.statement(select(*table.columns).where(self.ids.contains(core.c.id)))
        locked = select(core.c.id).where(self.ids.contains(core.c.id)).order_by(core.c.id).with_for_update()
        self.lock = database.statement(locked)
        self.create = database.statement(self._create([]))
        self.update = database.statement(self._update(self.patches.table, []))
        # A guarded statement is one of its own only where it differs.
        self.create_guarded = database.statement(self._create(guards)) if guards else self.create
        self.update_guarded = database.statement(self._update(self.patches.table, guards)) if guards else self.update
        self.delete = database.statement(self._delete(self.deletions.table, referred))
        if table.owner is not None:
            self.owned_patches = database.rows(**patched, **{CALLER: BigInteger()})
            self.owned_deletions = database.rows(**deleted, **{CALLER: BigInteger()})
            self.update_owned = database.statement(self._update(self.owned_patches.table, guards))
            self.delete_owned = database.statement(self._delete(self.owned_deletions.table, referred))
        self.refused = _flags(database, self.patches.table, guards)
        self.referred = _flags(database, self.deletions.table, referred)
        self.vacate = database.statement(self._vacate()) if table.unique else None

    def _create(self, guards: Sequence[Guard]) -> Any:
        """Return an INSERT of the rows that no guard refuses; with guards, it returns the guarded fields, too."""
        rows, columns = self.new_rows.table.c, self._core.c
        source = select(*(rows[name] for name in self._table.written)).where(*_passed(rows, guards))
        source = source.order_by(rows[ORDINALITY])
        returned = (columns.id, columns.created_at, *(columns[name] for name in self.guarded if guards))
        return insert(self._core).from_select(self._table.written, source).returning(*returned)

    def _locked(self, rows: FromClause, guards: Sequence[Guard], *, key_share: bool) -> CTE:
        """Return a CTE that selects the rows to write, each at its expected version if it has one, and locks them.

        They are locked in the order of their ids, whatever the plan, so that no two workers deadlock. Where a
        concurrent transaction committed first, PostgreSQL compares the version again, with the one that it waited for.
        """
        columns = self._core.c
        expected = or_(rows.c.version.is_(None), rows.c.version == columns.version)
        joined = select(*rows.c).join(self._core, and_(columns.id == rows.c.id, expected))
        joined = joined.where(*_passed(rows.c, guards), *self._owned(rows.c)).order_by(columns.id)
        return joined.with_for_update(of=self._core, key_share=key_share).cte("locked")

    def _owned(self, rows: Any) -> list[ColumnElement[bool]]:
        """Return the condition that the caller of a row may write it, if the row parameter has callers."""
        if self._table.owner is None or CALLER not in rows:
            return []
        owner = self._core.c[self._table.owner]
        return [or_(rows[CALLER].is_(None), owner.is_(None), owner == rows[CALLER])]

    def _delete(self, deletions: FromClause, guards: Sequence[Guard]) -> Any:
        rows, columns = self._locked(deletions, guards, key_share=False).c, self._core.c
        return delete(self._core).where(columns.id.in_(select(rows.id))).returning(columns.id)

    def _update(self, patches: FromClause, guards: Sequence[Guard]) -> Any:
        """Return an UPDATE of the columns whose bit is set: one statement serves every patch, also to NULL."""
        rows, columns = self._locked(patches, guards, key_share=True).c, self._core.c
        changed = rows[MASK] != literal_column("0")
        written = {name: case((self._has(rows, name), rows[name]), else_=columns[name]) for name in self._table.written}
        return (
            update(self._core)
            .where(columns.id == rows.id)
            .values(
                **written,
                version=case((changed, columns.version + 1), else_=columns.version),
                updated_at=case((changed, utc_now()), else_=columns.updated_at),
            )
            .returning(*self._table.columns)
        )

    def _vacate(self) -> Any:
        """Return an UPDATE that makes rows give up their unique values, so that those of a batch can be swapped."""
        rows, columns = self.patches.table.c, self._core.c
        values = {name: case((self._has(rows, name), rows[name]), else_=columns[name]) for name in self._unique}
        return update(self._core).where(columns.id == rows.id).values(**values).returning(columns.id)

    def _has(self, rows: Any, name: str) -> ColumnElement[bool]:
        """Return the condition that a row is to write a column: a new row writes all of them."""
        if MASK not in rows:
            return true()
        bit: ColumnElement[int] = literal_column(str(self._bits[name.removesuffix(FOLDED)]))
        is_set: ColumnElement[bool] = rows[MASK].bitwise_and(bit) != literal_column("0")
        return is_set

    def _taken(self, name: str) -> Guard:
        """Return the guard of a unique field: another row has its value."""
        column = self._table.compared(name)

        def is_taken(rows: Any) -> ColumnElement[bool]:
            other = self._core.alias("other")
            found = _any_row(other).where(other.c[column] == rows[column])
            if MASK in rows:
                found = found.where(other.c.id != rows.id)
            return and_(self._has(rows, column), exists(found))

        return is_taken

    def _unknown(self, reference: Reference) -> Guard:
        """Return the guard of a foreign key: it refers to no row."""

        def is_unknown(rows: Any) -> ColumnElement[bool]:
            referred, value = reference.other.alias("referred"), rows[reference.column]
            found = exists(_any_row(referred).where(referred.c.id == value))
            return and_(self._has(rows, reference.column), value.is_not(None), not_(found))

        return is_unknown

    def updating(self, patches: Sequence[Patch], *, guarded: bool) -> tuple[Statement, dict[str, Any]]:
        """Return the statement that updates these rows, and its arguments."""
        if self._table.owner is None or all(patch.owner is None for patch in patches):
            return self.update_guarded if guarded else self.update, self.bind_patches(patches)
        return self.update_owned, self.owned_patches.bind([(*self._bound(each), each.owner) for each in patches])

    def deleting(self, deletions: Sequence[Deletion]) -> tuple[Statement, dict[str, Any]]:
        """Return the statement that deletes these rows, and its arguments."""
        if self._table.owner is None or all(deletion.owner is None for deletion in deletions):
            return self.delete, self.bind_deletions(deletions)
        return self.delete_owned, self.owned_deletions.bind(deletions)

    def bind_deletions(self, deletions: Sequence[Deletion]) -> dict[str, Any]:
        """Return the arguments of `delete`."""
        return self.deletions.bind([(each.id, each.version) for each in deletions])

    def bind_patches(self, patches: Sequence[Patch]) -> dict[str, Any]:
        """Return the arguments of `update`."""
        return self.patches.bind([self._bound(patch) for patch in patches])

    def bind_vacated(self, patches: Sequence[Patch]) -> dict[str, Any] | None:
        """Return the arguments of `vacate`, if more than one of the patches changes unique values."""
        vacated = [
            Patch(patch.id, None, {name: self._vacant(name) for name in names})
            for patch in patches
            if (names := [name for name in self._table.unique if name in patch.values])
        ]
        return self.bind_patches(vacated) if len(vacated) > 1 else None

    def _vacant(self, name: str) -> str | None:
        return None if self._core.c[self._table.compared(name)].nullable else token_hex(VACANT_CHARACTERS // 2)

    def _bound(self, patch: Patch) -> tuple[Any, ...]:
        row = self._table.stored_row(tuple(map(patch.values.get, self._table.row_fields)))
        return patch.id, patch.version, sum(map(self._bits.__getitem__, patch.values)), *row


def _vacatable(column: Column[Any]) -> str:
    """Return the name of a unique column that two rows of a batch can swap the values of, else raise TypeError."""
    length = getattr(column.type, "length", None) or VACANT_CHARACTERS
    if column.nullable or (column.type.python_type is str and length >= VACANT_CHARACTERS):
        return column.name
    raise TypeError(f"{column} is unique: it must be nullable, or text of at least {VACANT_CHARACTERS} characters")


def _referred(reference: Reference) -> Guard:
    """Return the guard of a deletion: a row of another table refers to the row."""

    def is_referred(rows: Any) -> ColumnElement[bool]:
        referring = reference.other.alias("referring")
        return exists(_any_row(referring).where(referring.c[reference.column] == rows.id))

    return is_referred


def _flags(database: Database, rows: FromClause, guards: Sequence[Guard]) -> Statement | None:
    """Return a statement that returns, for each row in order, its position and whether each guard refuses it."""
    if not guards:
        return None
    flags = [guard(rows.c).label(f"refused_{number}") for number, guard in enumerate(guards)]
    return database.statement(select(rows.c[ORDINALITY], *flags).order_by(rows.c[ORDINALITY]))


def _passed(rows: Any, guards: Sequence[Guard]) -> list[ColumnElement[bool]]:
    return [not_(guard(rows)) for guard in guards]


def _any_row(table: FromClause) -> "Select[Any]":
    return select(literal_column("1")).select_from(table)
