"""Batches of items on one connection: each verb is one statement, whatever the size of the batch."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    Double,
    FromClause,
    Text,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from db.engines.database import Connection, Database
from db.engines.row_parameters import ORDINALITY
from db.errors import DuplicateWrite, NotFound, OutcomeUnknown, VersionMismatch
from db.models import FIRST_VERSION, Item, table
from db.tables.pagination import KeysetPaginator, Page, Query
from db.types import utc_now

T = TypeVar("T")
C = TypeVar("C", "Change", "Removal")

items = table(Item)


class NewItem(NamedTuple):
    """What an item is made of, in the order of the columns of `items`."""

    name: str
    price: float
    in_stock: bool


class Change(NamedTuple):
    """What to make of an item; None leaves a field as it is, and a version must be the item's own."""

    id: int
    version: int | None = None
    name: str | None = None
    price: float | None = None
    in_stock: bool | None = None


class Removal(NamedTuple):
    """Which item to remove; a version must be the item's own."""

    id: int
    version: int | None = None


class Statements:
    """One fixed statement for each verb, whatever the size of the batch."""

    def __init__(self, database: Database) -> None:
        self.keys = database.rows(id=BigInteger())
        self.new = database.rows(name=Text(), price=Double(), in_stock=Boolean())
        self.changes = database.rows(
            id=BigInteger(), version=BigInteger(), name=Text(), price=Double(), in_stock=Boolean()
        )
        self.removals = database.rows(id=BigInteger(), version=BigInteger())
        self.get = database.statement(select(*items.c).where(self.keys.contains(items.c.id)))
        self.add = database.statement(self._add())
        self.change = database.statement(self._change())
        self.remove = database.statement(self._remove())

    def _add(self) -> Any:
        rows = self.new.table.c
        source = select(rows.name, rows.price, rows.in_stock).order_by(rows[ORDINALITY])
        return insert(items).from_select(NewItem._fields, source).returning(items.c.id, items.c.created_at)

    def _locked(self, rows: FromClause) -> CTE:
        """Find the items of some rows, each at its version if there is one, and lock them.

        They are locked in the order of their ids, whatever the plan, so that no two workers deadlock. Where another was
        faster, PostgreSQL compares the version again, with the one that it waited for.
        """
        expected = or_(rows.c.version.is_(None), rows.c.version == items.c.version)
        joined = select(*rows.c).join(items, and_(items.c.id == rows.c.id, expected))
        return joined.order_by(items.c.id).with_for_update(of=items).cte("locked")

    def _remove(self) -> Any:
        rows = self._locked(self.removals.table).c
        return delete(items).where(items.c.id.in_(select(rows.id))).returning(items.c.id)

    def _change(self) -> Any:
        rows = self._locked(self.changes.table).c
        touched = or_(rows.name.is_not(None), rows.price.is_not(None), rows.in_stock.is_not(None))
        return (
            update(items)
            .where(items.c.id == rows.id)
            .values(
                name=func.coalesce(rows.name, items.c.name),
                price=func.coalesce(rows.price, items.c.price),
                in_stock=func.coalesce(rows.in_stock, items.c.in_stock),
                version=case((touched, items.c.version + 1), else_=items.c.version),
                updated_at=case((touched, utc_now()), else_=items.c.updated_at),
            )
            .returning(*items.c)
        )


class ItemSets(Generic[T]):
    """The verbs. A row is handed out as `shape(*columns)`, in the order of the columns of `items`.

    Each gives a result for each member, in their order; an exception stands for a member that was left as it was. A
    write has a token, under which it happens once.
    """

    def __init__(self, database: Database, shape: Callable[..., T]) -> None:
        self._shape = shape
        self._sql = Statements(database)
        self._pages = KeysetPaginator(database, items)

    async def get(self, connection: Connection, ids: Sequence[int]) -> list[T | NotFound]:
        """Read items."""
        shape = self._shape
        found = {row[0]: shape(*row) for row in await self._read(connection, ids)}
        return [found.get(id) or NotFound([id]) for id in ids]

    async def page(self, connection: Connection, query: Query) -> Page[T]:
        """Read a page of the list."""
        rows, more, total = await self._pages.fetch(connection, query)
        return Page([self._shape(*row) for row in rows], more, total)

    async def add(
        self, connection: Connection, rows: Sequence[NewItem], token: bytes | None = None
    ) -> list[T | NotFound]:
        """Add items."""
        try:
            made = await connection.fetch(self._sql.add, self._sql.new.bind(rows), token)
        except DuplicateWrite as earlier:  # by now others may have changed them, or removed them
            made = [(id, earlier.written_at) for id in earlier.ids]
        shape = self._shape
        # Ids are drawn in the order of the batch, while RETURNING promises none; and what is known need not come back.
        return [
            shape(id, *row, FIRST_VERSION, created_at, created_at)
            for (id, created_at), row in zip(sorted(made, key=_first), rows, strict=True)
        ]

    async def change(
        self, connection: Connection, changes: Sequence[Change], token: bytes | None = None
    ) -> list[T | Exception]:
        """Change items, of which no id stands there twice."""
        rows, touched = await self._changed(connection, changes, token)
        changed: dict[int, T | Exception] = dict.fromkeys(touched, OutcomeUnknown("it was changed, and is gone by now"))
        changed.update((row[0], self._shape(*row)) for row in rows)
        reasons = await self._reasons(connection, [change for change in changes if change.id not in changed])
        return [changed.get(change.id) or reasons[change.id] for change in changes]

    async def remove(
        self, connection: Connection, removals: Sequence[Removal], token: bytes | None = None
    ) -> list[Exception | None]:
        """Remove items."""
        try:
            rows = await connection.fetch(self._sql.remove, self._sql.removals.bind(_ordered(removals)), token)
            gone = {row[0] for row in rows}
        except DuplicateWrite as earlier:
            gone = set(earlier.ids)
        reasons = await self._reasons(connection, [removal for removal in removals if removal.id not in gone])
        return [reasons.get(removal.id) for removal in removals]

    async def _read(self, connection: Connection, ids: Sequence[int]) -> list[Any]:
        if not ids:  # an earlier attempt may have touched nothing
            return []
        return await connection.fetch(self._sql.get, self._sql.keys.bind([(id,) for id in ids]))

    async def _changed(
        self, connection: Connection, changes: Sequence[Change], token: bytes | None
    ) -> tuple[list[Any], Sequence[int]]:
        """Change items, and return their rows; with the ids of those changed before, which others may have removed."""
        try:
            return await connection.fetch(self._sql.change, self._sql.changes.bind(_ordered(changes)), token), ()
        except DuplicateWrite as earlier:
            return await self._read(connection, earlier.ids), earlier.ids

    async def _reasons(self, connection: Connection, missing: Sequence[Change | Removal]) -> dict[int, Exception]:
        """Find out why these were left as they were: gone, or at another version."""
        asked = [one.id for one in missing if one.version is not None]
        present: set[int] = set()
        if asked:
            try:
                present = {row[0] for row in await self._read(connection, asked)}
            except Exception as error:  # noqa: BLE001 - others of their set were written: this is for the missing
                return dict.fromkeys((one.id for one in missing), error)
        return {one.id: reason([one], present) for one in missing}


def all_or_nothing(results: Sequence[T | Exception]) -> list[T]:
    """Return the results of a batch. Raises NotFound or VersionMismatch with every id, or another error."""
    for word in (NotFound, VersionMismatch):
        found = [id for result in results if isinstance(result, word) for id in result.ids]
        if found:
            raise word(found)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if not isinstance(result, Exception)]


def reason(missing: Sequence[Change | Removal], present: set[int]) -> NotFound | VersionMismatch:
    """Tell gone from stale: without an expected version, only a row that was not there is left as it was."""
    stale = [one.id for one in missing if one.version is not None and one.id in present]
    gone = [one.id for one in missing if one.id not in stale]
    return NotFound(gone) if gone else VersionMismatch(stale)


def key(one: Change | Removal) -> int:
    """Return the id of what is to be written."""
    return one.id


def _ordered(changes: Sequence[C]) -> list[C]:
    """Sort by id, so that two workers never wait for each other's rows."""
    return sorted(changes, key=key)


def _first(row: Sequence[Any]) -> Any:
    return row[0]
