"""Pages of the list: filters, orders, and keyset paging, where a page deep inside costs what the first one costs."""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct, field
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.sql.elements import KeyedColumnElement

from db.engines.database import Connection, Database
from db.engines.statement import Statement

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


# The order in which a filter's own index gives its rows.
FILTER_ORDERS = {"in_stock": "id", "price_min": "price", "price_max": "price", "prefix": "name", "prefix_end": "name"}

# Sorting these takes about as long as finding a hundred of them on the way through a million rows.
SORTED_ROWS_MAX = 10_000


def successor(prefix: str) -> str | None:
    """Return the first string, by code point, after all those that start with the prefix; None if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if last == 0xD800 else last)  # noqa: PLR2004 - surrogates are no characters


class KeysetPaginator:
    """The statements behind the list, each compiled when its combination of filters is first asked for."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._statements: dict[tuple[object, ...], Statement] = {}

    async def fetch(self, connection: Connection, query: Query) -> tuple[list[Any], bool, int | None]:
        """Return a page's rows, whether there are more, and the total if it was asked for."""
        filters = _filters(query)
        total = None
        if query.count:
            counted = await connection.fetch(
                self._statement(("count", *filters), lambda: self._count(filters)), filters
            )
            total = counted[0][0]
        values = _page_values(query, filters)
        broad = await self._broad(connection, query, filters)
        shape = (query.order, query.descending, broad, *values)
        rows = await connection.fetch(self._statement(shape, lambda: self._page(query, values, broad)), values)
        return rows[: query.limit], len(rows) > query.limit, total

    async def _broad(self, connection: Connection, query: Query, filters: dict[str, Any]) -> frozenset[str]:
        """Find the filters that match too many rows for these to be looked up and sorted.

        A planner that has statistics knows. One that has none takes every filter for a narrow one, and sorts a million
        rows for a page; so it is told, after a look at no more rows than it may sort.
        """
        elsewhere = {name: value for name, value in filters.items() if FILTER_ORDERS[name] != query.order}
        if self._database.has_statistics or not elsewhere:
            return frozenset()
        counted = await connection.fetch(
            self._statement(("look", *elsewhere), lambda: self._look(elsewhere)), elsewhere
        )
        return frozenset(elsewhere if counted[0][0] == SORTED_ROWS_MAX else ())

    def _look(self, filters: dict[str, Any]) -> "Select[Any]":
        matching = select(self._table.c.id).where(*self._where(filters)).limit(literal_column(str(SORTED_ROWS_MAX)))
        return select(func.count()).select_from(matching.subquery())

    def _statement(self, shape: tuple[object, ...], make: "Callable[[], Select[Any]]") -> Statement:
        statement = self._statements.get(shape)
        if statement is None:
            statement = self._statements[shape] = self._database.statement(make())
        return statement

    def _where(self, values: dict[str, Any], broad: frozenset[str] = frozenset()) -> list[ColumnElement[bool]]:
        columns = self._table.c
        clauses = {
            "in_stock": columns.in_stock == bindparam("in_stock", type_=columns.in_stock.type),
            "price_min": columns.price >= bindparam("price_min", type_=columns.price.type),
            "price_max": columns.price <= bindparam("price_max", type_=columns.price.type),
            "prefix": columns.name >= bindparam("prefix", type_=columns.name.type),
            "prefix_end": columns.name < bindparam("prefix_end", type_=columns.name.type),
        }
        return [func.likely(clause) if name in broad else clause for name, clause in clauses.items() if name in values]

    def _count(self, values: dict[str, Any]) -> "Select[Any]":
        return select(func.count()).select_from(self._table).where(*self._where(values))

    def _page(self, query: Query, values: dict[str, Any], broad: frozenset[str]) -> "Select[Any]":
        columns = self._table.c
        keys: list[KeyedColumnElement[Any]] = [columns.id]
        if query.order != "id":
            keys.insert(0, columns[query.order])
        page = select(*columns).where(*self._where(values, broad))
        page = page.order_by(*(key.desc() if query.descending else key for key in keys))
        if "last_id" in values:
            bound = [bindparam("last_id", type_=BigInteger())]
            if query.order != "id":
                bound.insert(0, bindparam("value", type_=columns[query.order].type))
            here, last = tuple_(*keys), tuple_(*bound)
            page = page.where(here < last if query.descending else here > last)
        page = page.limit(bindparam("fetched", type_=Integer()))
        return page.offset(bindparam("offset", type_=Integer())) if "offset" in values else page


def _filters(query: Query) -> dict[str, Any]:
    """Name what the clauses of the filters are bound to; what is absent is no clause."""
    values = {
        "in_stock": query.in_stock,
        "price_min": query.price_min,
        "price_max": query.price_max,
        "prefix": query.name_prefix or None,
        "prefix_end": successor(query.name_prefix) if query.name_prefix else None,
    }
    return {name: value for name, value in values.items() if value is not None}


# Which filter bounds an order at the end where its pages begin.
BEGINNINGS = {
    ("price", False): "price_min",
    ("price", True): "price_max",
    ("name", False): "prefix",
    ("name", True): "prefix_end",
}


def _page_values(query: Query, filters: dict[str, Any]) -> dict[str, Any]:
    """Name what a page's clauses are bound to.

    Where a filter and the cursor bound the same end of the order, the looser of them says nothing and is left out: an
    index is entered at one bound, and were it the filter's, a deep page would cost the way to it.
    """
    values = {**filters, "fetched": query.limit + 1}  # one row more tells whether there is a next page
    if query.offset:
        values["offset"] = query.offset
    if query.after is not None:
        value, last_id = query.after
        beginning = BEGINNINGS.get((query.order, query.descending), "")
        if beginning in values:
            bound = values[beginning]
            # The prefix's end is itself outside, so that a cursor on it says less.
            looser = (
                value < bound if not query.descending else value > bound or (value, beginning) == (bound, "prefix_end")
            )
            if looser:
                return values
            del values[beginning]
        values["last_id"] = last_id
        if query.order != "id":
            values["value"] = value
    return values
