"""The SQL of items: each verb is one statement for a whole batch, whatever its size, on one connection."""

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
W = TypeVar("W", "ItemUpdate", "ItemDeletion")

items = table(Item)


class ItemRow(NamedTuple):
    """The values that an item is created with, in the order of the columns of `items`."""

    name: str
    price: float
    in_stock: bool


class ItemUpdate(NamedTuple):
    """The new values of an item; None leaves a field as it is. A version must be the item's current one."""

    id: int
    version: int | None = None
    name: str | None = None
    price: float | None = None
    in_stock: bool | None = None


class ItemDeletion(NamedTuple):
    """The id of an item to delete. A version must be the item's current one."""

    id: int
    version: int | None = None


class CompiledStatements:
    """One compiled statement for each verb, whatever the size of the batch, and the row parameters they read."""

    def __init__(self, database: Database) -> None:
        self.ids = database.rows(id=BigInteger())
        self.new_rows = database.rows(name=Text(), price=Double(), in_stock=Boolean())
        self.updates = database.rows(
            id=BigInteger(), version=BigInteger(), name=Text(), price=Double(), in_stock=Boolean()
        )
        self.deletions = database.rows(id=BigInteger(), version=BigInteger())
        self.get = database.statement(select(*items.c).where(self.ids.contains(items.c.id)))
        self.create = database.statement(self._create())
        self.update = database.statement(self._update())
        self.delete = database.statement(self._delete())

    def _create(self) -> Any:
        rows = self.new_rows.table.c
        source = select(rows.name, rows.price, rows.in_stock).order_by(rows[ORDINALITY])
        return insert(items).from_select(ItemRow._fields, source).returning(items.c.id, items.c.created_at)

    def _locked(self, rows: FromClause) -> CTE:
        """Return a CTE that selects the items of some rows, each at its expected version if it has one, and locks them.

        They are locked in the order of their ids, whatever the plan, so that no two workers deadlock. Where a
        concurrent transaction committed first, PostgreSQL compares the version again, with the one that it waited for.
        """
        expected = or_(rows.c.version.is_(None), rows.c.version == items.c.version)
        joined = select(*rows.c).join(items, and_(items.c.id == rows.c.id, expected))
        return joined.order_by(items.c.id).with_for_update(of=items).cte("locked")

    def _delete(self) -> Any:
        rows = self._locked(self.deletions.table).c
        return delete(items).where(items.c.id.in_(select(rows.id))).returning(items.c.id)

    def _update(self) -> Any:
        rows = self._locked(self.updates.table).c
        has_values = or_(rows.name.is_not(None), rows.price.is_not(None), rows.in_stock.is_not(None))
        return (
            update(items)
            .where(items.c.id == rows.id)
            .values(
                name=func.coalesce(rows.name, items.c.name),
                price=func.coalesce(rows.price, items.c.price),
                in_stock=func.coalesce(rows.in_stock, items.c.in_stock),
                version=case((has_values, items.c.version + 1), else_=items.c.version),
                updated_at=case((has_values, utc_now()), else_=items.c.updated_at),
            )
            .returning(*items.c)
        )


class ItemStatements(Generic[T]):
    """The verbs of items, each run for a batch on one connection.

    An item is returned as `make_item(*columns)`, in the order of the columns of `items`. Every verb but `page` returns
    one result for each member of its batch, in their order; a result that is an exception means that this member's item
    was left as it was. A write that is repeated under the same token happens once.
    """

    def __init__(self, database: Database, make_item: Callable[..., T]) -> None:
        self._make_item = make_item
        self._sql = CompiledStatements(database)
        self._paginator = KeysetPaginator(database, items)

    async def get(self, connection: Connection, ids: Sequence[int]) -> list[T | NotFound]:
        """Return the item for each id, or NotFound in its place."""
        make_item = self._make_item
        found = {row[0]: make_item(*row) for row in await self._select(connection, ids)}
        return [found.get(id) or NotFound([id]) for id in ids]

    async def page(self, connection: Connection, query: Query) -> Page[T]:
        """Return a page of the list."""
        rows, more, total = await self._paginator.fetch(connection, query)
        return Page([self._make_item(*row) for row in rows], more, total)

    async def create(
        self, connection: Connection, rows: Sequence[ItemRow], token: bytes | None = None
    ) -> list[T | NotFound]:
        """Create items, and return each as it was created."""
        try:
            created = await connection.fetch(self._sql.create, self._sql.new_rows.bind(rows), token)
        except DuplicateWrite as duplicate:  # the items may have been updated or deleted since
            created = [(id, duplicate.written_at) for id in duplicate.ids]
        make_item = self._make_item
        # Ids are drawn in the order of the batch, while RETURNING promises none; and what is known need not come back.
        return [
            make_item(id, *row, FIRST_VERSION, created_at, created_at)
            for (id, created_at), row in zip(sorted(created, key=_first), rows, strict=True)
        ]

    async def update(
        self, connection: Connection, updates: Sequence[ItemUpdate], token: bytes | None = None
    ) -> list[T | Exception]:
        """Update items, each id at most once, and return each as it is then, or NotFound or VersionMismatch."""
        rows, ids_before = await self._update(connection, updates, token)
        deleted_since = OutcomeUnknown("the item was updated, and has been deleted since")
        updated: dict[int, T | Exception] = dict.fromkeys(ids_before, deleted_since)
        updated.update((row[0], self._make_item(*row)) for row in rows)
        errors = await self._errors(connection, [each for each in updates if each.id not in updated])
        return [updated.get(each.id) or errors[each.id] for each in updates]

    async def delete(
        self, connection: Connection, deletions: Sequence[ItemDeletion], token: bytes | None = None
    ) -> list[Exception | None]:
        """Delete items, and return None for each that was deleted, or NotFound or VersionMismatch."""
        try:
            rows = await connection.fetch(self._sql.delete, self._sql.deletions.bind(_ordered(deletions)), token)
            deleted = {row[0] for row in rows}
        except DuplicateWrite as duplicate:
            deleted = set(duplicate.ids)
        errors = await self._errors(connection, [each for each in deletions if each.id not in deleted])
        return [errors.get(each.id) for each in deletions]

    async def _select(self, connection: Connection, ids: Sequence[int]) -> list[Any]:
        if not ids:  # the write that a DuplicateWrite stands for may have found no item
            return []
        return await connection.fetch(self._sql.get, self._sql.ids.bind([(id,) for id in ids]))

    async def _update(
        self, connection: Connection, updates: Sequence[ItemUpdate], token: bytes | None
    ) -> tuple[list[Any], Sequence[int]]:
        """Update items, and return their rows, and the ids that a write with this token updated before.

        Rows of the latter are missing where the item has been deleted since.
        """
        try:
            return await connection.fetch(self._sql.update, self._sql.updates.bind(_ordered(updates)), token), ()
        except DuplicateWrite as duplicate:
            return await self._select(connection, duplicate.ids), duplicate.ids

    async def _errors(
        self, connection: Connection, unwritten: Sequence[ItemUpdate | ItemDeletion]
    ) -> dict[int, Exception]:
        """Return, by id, why items were not written: they do not exist, or are at another version."""
        versioned = [each.id for each in unwritten if each.version is not None]
        present: set[int] = set()
        if versioned:
            try:
                present = {row[0] for row in await self._select(connection, versioned)}
            except Exception as error:  # noqa: BLE001 - the rest of the batch is written: this is for these members only
                return dict.fromkeys((each.id for each in unwritten), error)
        # Without an expected version, only an item that does not exist is not written.
        return {
            each.id: VersionMismatch([each.id])
            if each.version is not None and each.id in present
            else NotFound([each.id])
            for each in unwritten
        }


def all_or_nothing(results: Sequence[T | Exception]) -> list[T]:
    """Return the results of a batch if none is an exception.

    Raise NotFound with every id that was not found, else VersionMismatch with every such id, else the first exception.
    """
    for error_type in (NotFound, VersionMismatch):
        ids = [id for result in results if isinstance(result, error_type) for id in result.ids]
        if ids:
            raise error_type(ids)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if not isinstance(result, Exception)]


def item_id(write: ItemUpdate | ItemDeletion) -> int:
    """Return the id of the item that a write is for."""
    return write.id


def _ordered(writes: Sequence[W]) -> list[W]:
    """Return the writes in the order of their ids, so that two workers never wait for each other's rows."""
    return sorted(writes, key=item_id)


def _first(row: Sequence[Any]) -> Any:
    return row[0]
