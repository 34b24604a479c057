"""Items: every verb takes a set, and gives a set in the same order.

A single item is a set of one, which shares its statement with whoever waits beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Self, TypeVar

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

from db.database import Connection, Database
from db.errors import NotFound, Stale
from db.lanes import Lane, Limits
from db.models import Item, table, utc_now
from db.pages import Page, Pages, Query
from db.rows import POSITION
from db.session import transaction

T = TypeVar("T")
C = TypeVar("C", "Change", "Removal")

items = table(Item)


class NewItem(NamedTuple):
    """What an item is made of."""

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
    """One fixed statement for each verb, whatever the size of the set."""

    def __init__(self, database: Database) -> None:
        self.keys = database.rows(id=BigInteger())
        self.new = database.rows(name=Text(), price=Double(), in_stock=Boolean())
        self.changes = database.rows(
            id=BigInteger(), version=BigInteger(), name=Text(), price=Double(), in_stock=Boolean()
        )
        self.removals = database.rows(id=BigInteger(), version=BigInteger())
        self.get = database.statement(select(*items.c).where(self.keys.holds(items.c.id)))
        self.add = database.statement(self._add())
        self.change = database.statement(self._change())
        self.remove = database.statement(self._remove())

    def _add(self) -> Any:
        rows = self.new.table.c
        source = select(rows.name, rows.price, rows.in_stock).order_by(rows[POSITION])
        return insert(items).from_select(["name", "price", "in_stock"], source).returning(*items.c)

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


# What may take long leaves a second connection for what does not. While a set waits for the disk, others are written.
LIST_CONNECTIONS, BULK_CONNECTIONS = 2, 4

Bulk = Callable[[Connection], Awaitable[Any]]


class Items(Generic[T]):
    """The verbs. A row is handed out as `shape(*columns)`, in the order of the columns of `items`.

    All of them raise the words of db.errors. With `coalesce` off every request is a set of one, run on one of
    `connections` for each verb.
    """

    def __init__(
        self, database: Database, shape: Callable[..., T], *, limits: Limits, coalesce: bool, connections: int
    ) -> None:
        self._database = database
        self._shape = shape
        self._sql = Statements(database)
        self._pages = Pages(database, items)
        alone = limits._replace(set_size_max=1)
        sets, several = (limits, 1) if coalesce else (alone, connections)
        lists, bulk = max(several, LIST_CONNECTIONS), max(several, BULK_CONNECTIONS)
        connect = partial(database.connect, one_plan=True)
        self._reads = Lane("read", connect, self._get, sets, several, shared=coalesce, repeatable=True)
        self._lists = Lane("list", database.connect, self._page, alone, lists, shared=coalesce, repeatable=True)
        self._adds = Lane("add", connect, self._add, sets, several)
        self._changes = Lane("change", connect, self._change, sets, several, exclusive=_id)
        self._removals = Lane("remove", connect, self._remove, sets, several, exclusive=_id)
        self._bulk_reads = Lane("bulk read", connect, _run, alone, bulk, repeatable=True)
        self._bulk_writes = Lane("bulk write", connect, _run, alone, bulk)

    @property
    def _lanes(self) -> "list[Lane[Connection, Any, Any]]":
        return [value for value in vars(self).values() if isinstance(value, Lane)]

    async def __aenter__(self) -> Self:
        """Connect, all lanes at once, and wait for the first attempts, whether they succeed or not."""
        try:
            await asyncio.gather(*(lane.__aenter__() for lane in self._lanes))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what is queued, then disconnect."""
        await asyncio.gather(*(lane.__aexit__() for lane in self._lanes))

    def get_one(self, id: int) -> Awaitable[T]:
        """Read one item. Raises NotFound."""
        return self._reads.submit(id)

    def add_one(self, row: NewItem) -> Awaitable[T]:
        """Add one item."""
        return self._adds.submit(row)

    def change_one(self, change: Change) -> Awaitable[T]:
        """Change one item. Raises NotFound, Stale."""
        return self._changes.submit(change)

    def remove_one(self, removal: Removal) -> Awaitable[None]:
        """Remove one item. Raises NotFound, Stale."""
        return self._removals.submit(removal)

    def page(self, query: Query) -> Awaitable[Page[T]]:
        """Read a page of the list."""
        return self._lists.submit(query)

    async def get(self, ids: Sequence[int]) -> list[T]:
        """Read the items that exist, in the order of their ids."""
        found = await self._bulk_reads.submit(partial(self._get, ids=ids))
        return [item for item in found if not isinstance(item, NotFound)]

    async def add(self, rows: Sequence[NewItem]) -> list[T]:
        """Add all or none."""
        added: list[T] = await self._bulk_writes.submit(partial(self._add, rows=rows))
        return added

    async def change(self, changes: Sequence[Change]) -> list[T]:
        """Change all or none; no id may stand there twice. Raises NotFound, Stale."""
        async with transaction(self._database) as session:
            found = await session.execute(self._sql.change.source, self._sql.changes.bind(_ordered(changes)))
            changed = {row.id: self._shape(*row) for row in found}
            missing = [change for change in changes if change.id not in changed]
            if missing:
                keys = self._sql.keys.bind([(change.id,) for change in missing])
                present = {row.id for row in await session.execute(self._sql.get.source, keys)}
                raise _reason(missing, present)
        return [changed[change.id] for change in changes]

    async def remove(self, ids: Sequence[int]) -> list[int]:
        """Remove those that exist, and give their ids in the order they were asked for."""
        gone = await self._bulk_writes.submit(partial(self._remove, removals=[Removal(id) for id in ids]))
        return [id for id, reason in zip(ids, gone, strict=True) if reason is None]

    async def _get(self, connection: Connection, ids: Sequence[int]) -> list[T | NotFound]:
        rows = await connection.fetch(self._sql.get, self._sql.keys.bind([(id,) for id in ids]))
        shape = self._shape
        found = {row[0]: shape(*row) for row in rows}
        return [found.get(id) or NotFound([id]) for id in ids]

    async def _page(self, connection: Connection, queries: Sequence[Query]) -> list[Page[T]]:
        pages = []
        for query in queries:
            rows, more, total = await self._pages.fetch(connection, query)
            pages.append(Page([self._shape(*row) for row in rows], more, total))
        return pages

    async def _add(self, connection: Connection, rows: Sequence[NewItem]) -> list[T]:
        added = await connection.fetch(self._sql.add, self._sql.new.bind(rows))
        # Ids are drawn in the order of the set, while RETURNING promises none.
        return [self._shape(*row) for row in sorted(added, key=_first)]

    async def _change(self, connection: Connection, changes: Sequence[Change]) -> list[T | Exception]:
        rows = await connection.fetch(self._sql.change, self._sql.changes.bind(_ordered(changes)))
        changed = {row[0]: self._shape(*row) for row in rows}
        reasons = await self._reasons(connection, [change for change in changes if change.id not in changed])
        return [changed.get(change.id) or reasons[change.id] for change in changes]

    async def _remove(self, connection: Connection, removals: Sequence[Removal]) -> list[Exception | None]:
        rows = await connection.fetch(self._sql.remove, self._sql.removals.bind(_ordered(removals)))
        gone = {row[0] for row in rows}
        reasons = await self._reasons(connection, [removal for removal in removals if removal.id not in gone])
        return [reasons.get(removal.id) for removal in removals]

    async def _reasons(self, connection: Connection, missing: Sequence[Change | Removal]) -> dict[int, Exception]:
        """Find out why these were left as they were: gone, or at another version."""
        asked = [one for one in missing if one.version is not None]
        present: set[int] = set()
        if asked:
            try:
                rows = await connection.fetch(self._sql.get, self._sql.keys.bind([(one.id,) for one in asked]))
            except Exception as error:  # noqa: BLE001 - others of their set were written: this is for the missing
                return dict.fromkeys((one.id for one in missing), error)
            present = {row[0] for row in rows}
        return {one.id: _reason([one], present) for one in missing}


def _reason(missing: Sequence[Change | Removal], present: set[int]) -> NotFound | Stale:
    """Tell gone from stale: without an expected version, only a row that was not there is left as it was."""
    stale = [one.id for one in missing if one.version is not None and one.id in present]
    gone = [one.id for one in missing if one.id not in stale]
    return NotFound(gone) if gone else Stale(stale)


async def _run(connection: Connection, works: Sequence[Bulk]) -> list[Any]:
    return [await work(connection) for work in works]


def _id(one: Change | Removal) -> int:
    return one.id


def _ordered(changes: Sequence[C]) -> list[C]:
    """Sort by id, so that two workers never wait for each other's rows."""
    return sorted(changes, key=_id)


def _first(row: Sequence[Any]) -> Any:
    return row[0]
