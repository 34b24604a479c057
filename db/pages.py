"""Pages of the list: filters, orders, and keyset paging, where a page deep inside costs what the first one costs."""

from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field
from sqlalchemy import BigInteger, ColumnElement, Integer, Select, Table, bindparam, func, select, tuple_
from sqlalchemy.sql.elements import KeyedColumnElement

from db.engine import Connection, Database, Statement

T = TypeVar("T")

Order = Literal["id", "name", "price", "created_at"]


class Query(Struct, frozen=True):
    """Which items, in which order, from where on."""

    order: Order = "id"
    descending: bool = False
    after: tuple[Any, int] | None = None  # the ordered value and the id of the last item of the page before
    limit: int = 100
    offset: int = 0
    in_stock: bool | None = None
    price_min: float | None = None
    price_max: float | None = None
    name_prefix: str | None = None
    count: bool = False


class Page(Struct, Generic[T]):
    """A page, shared by everyone who asked for it at the same time."""

    items: list[T]
    more: bool
    total: int | None = None
    encoded: dict[Any, Any] = field(default_factory=dict)  # left by the first to encode it, for the others


def successor(prefix: str) -> str | None:
    """Give the first string, by code point, after all those that start with the prefix; None if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if last == 0xD800 else last)  # noqa: PLR2004 - surrogates are no characters


class Pages:
    """The statements behind the list, each compiled when its combination of filters is first asked for."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._statements: dict[tuple[object, ...], Statement] = {}

    async def fetch(self, connection: Connection, query: Query) -> tuple[list[Any], bool, int | None]:
        """Give a page's rows, whether there are more, and the total if it was asked for."""
        values = self._values(query)
        total = None
        if query.count:
            counted = await connection.fetch(self._statement(query, values, counting=True), values)
            total = counted[0][0]
        rows = await connection.fetch(self._statement(query, values, counting=False), values)
        return rows[: query.limit], len(rows) > query.limit, total

    def _values(self, query: Query) -> dict[str, Any]:
        """Name what the statement's clauses are bound to; what is absent is no clause."""
        values = {
            "in_stock": query.in_stock,
            "price_min": query.price_min,
            "price_max": query.price_max,
            "prefix": query.name_prefix or None,
            "prefix_end": successor(query.name_prefix) if query.name_prefix else None,
            "value": query.after and query.after[0],
            "last_id": query.after and query.after[1],
            "offset": query.offset or None,
        }
        given = {name: value for name, value in values.items() if value is not None}
        return {**given, "fetched": query.limit + 1}  # one row more tells whether there is a next page

    def _statement(self, query: Query, values: dict[str, Any], *, counting: bool) -> Statement:
        shape = (counting, *values) if counting else (query.order, query.descending, *values)
        statement = self._statements.get(shape)
        if statement is None:
            source = self._count(values) if counting else self._page(query, values)
            statement = self._statements[shape] = self._database.statement(source)
        return statement

    def _filters(self, values: dict[str, Any]) -> list[ColumnElement[bool]]:
        columns = self._table.c
        clauses = {
            "in_stock": columns.in_stock == bindparam("in_stock", type_=columns.in_stock.type),
            "price_min": columns.price >= bindparam("price_min", type_=columns.price.type),
            "price_max": columns.price <= bindparam("price_max", type_=columns.price.type),
            "prefix": columns.name >= bindparam("prefix", type_=columns.name.type),
            "prefix_end": columns.name < bindparam("prefix_end", type_=columns.name.type),
        }
        return [clause for name, clause in clauses.items() if name in values]

    def _count(self, values: dict[str, Any]) -> "Select[Any]":
        return select(func.count()).select_from(self._table).where(*self._filters(values))

    def _page(self, query: Query, values: dict[str, Any]) -> "Select[Any]":
        columns = self._table.c
        keys: list[KeyedColumnElement[Any]] = [columns.id]
        if query.order != "id":
            keys.insert(0, columns[query.order])
        page = select(*columns).where(*self._filters(values))
        page = page.order_by(*(key.desc() if query.descending else key for key in keys))
        if query.after is not None:
            bound = [bindparam("last_id", type_=BigInteger())]
            if query.order != "id":
                bound.insert(0, bindparam("value", type_=columns[query.order].type))
            here, last = tuple_(*keys), tuple_(*bound)
            page = page.where(here < last if query.descending else here > last)
        page = page.limit(bindparam("fetched", type_=Integer()))
        return page.offset(bindparam("offset", type_=Integer())) if query.offset else page
