"""Keyset pagination: the filters, orders and pages of the list. A deep page costs what the first one costs."""

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
    """The filters and the order of a list, and the position of a page in it."""

    order: Order = "id"
    descending: bool = False
    after: tuple[Any, int] | None = None  # the cursor: the ordered value and the id of the previous page's last item
    limit: int = 100
    offset: int = 0
    in_stock: bool | None = None
    price_min: float | None = None
    price_max: float | None = None
    name_prefix: str | None = None
    count: bool = False


class Page(Struct, Generic[T]):
    """A page of the list, shared by all requests for it that were deduplicated."""

    items: list[T]
    more: bool
    total: int | None = None
    encoded: dict[Any, Any] = field(default_factory=dict)  # its encoded forms, stored by the first request for the rest


# The order in which the index of a filter returns its rows.
FILTER_ORDERS = {"in_stock": "id", "price_min": "price", "price_max": "price", "prefix": "name", "prefix_end": "name"}

# To sort so many takes about as long as to find a hundred of them in a scan of a million rows.
SORTED_ROWS_MAX = 10_000


def successor(prefix: str) -> str | None:
    """Return the first string, by code point, after all that start with the prefix; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # noqa: PLR2004 - surrogates are no characters


class KeysetPaginator:
    """The statements of the list, each compiled when its combination of filters is first requested."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._statements: dict[tuple[object, ...], Statement] = {}

    async def fetch(self, connection: Connection, query: Query) -> tuple[list[Any], bool, int | None]:
        """Return a page's rows, whether more follow, and the number of all rows of the list if `query.count` is set."""
        filters = _filters(query)
        total = None
        if query.count:
            counts = await connection.fetch(self._statement(("count", *filters), lambda: self._count(filters)), filters)
            total = counts[0][0]
        values = _page_values(query, filters)
        broad = await self._broad(connection, query, filters)
        variant = (query.order, query.descending, broad, *values)
        rows = await connection.fetch(self._statement(variant, lambda: self._page(query, values, broad)), values)
        return rows[: query.limit], len(rows) > query.limit, total

    async def _broad(self, connection: Connection, query: Query, filters: dict[str, Any]) -> frozenset[str]:
        """Return the filters that match too many rows to be looked up by their index and sorted.

        A planner with statistics knows them. One without assumes that every filter matches few rows, and would sort a
        million rows for a page; so the statement marks these filters, after a count of no more rows than may be sorted.
        """
        other_order = {name: value for name, value in filters.items() if FILTER_ORDERS[name] != query.order}
        if self._database.has_statistics or not other_order:
            return frozenset()
        counts = await connection.fetch(
            self._statement(("count up to", *other_order), lambda: self._count_up_to_max(other_order)), other_order
        )
        return frozenset(other_order if counts[0][0] == SORTED_ROWS_MAX else ())

    def _count_up_to_max(self, filters: dict[str, Any]) -> "Select[Any]":
        matching = select(self._table.c.id).where(*self._where(filters)).limit(literal_column(str(SORTED_ROWS_MAX)))
        return select(func.count()).select_from(matching.subquery())

    def _statement(self, variant: tuple[object, ...], make: "Callable[[], Select[Any]]") -> Statement:
        statement = self._statements.get(variant)
        if statement is None:
            statement = self._statements[variant] = self._database.statement(make())
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
        order: list[KeyedColumnElement[Any]] = [columns.id]
        if query.order != "id":
            order.insert(0, columns[query.order])
        page = select(*columns).where(*self._where(values, broad))
        page = page.order_by(*(column.desc() if query.descending else column for column in order))
        if "last_id" in values:
            bound = [bindparam("last_id", type_=BigInteger())]
            if query.order != "id":
                bound.insert(0, bindparam("value", type_=columns[query.order].type))
            position, cursor = tuple_(*order), tuple_(*bound)
            page = page.where(position < cursor if query.descending else position > cursor)
        page = page.limit(bindparam("fetched", type_=Integer()))
        return page.offset(bindparam("offset", type_=Integer())) if "offset" in values else page


def _filters(query: Query) -> dict[str, Any]:
    """Return the filters' parameters, by name; a filter that is not set has none, and no clause."""
    values = {
        "in_stock": query.in_stock,
        "price_min": query.price_min,
        "price_max": query.price_max,
        "prefix": query.name_prefix or None,
        "prefix_end": successor(query.name_prefix) if query.name_prefix else None,
    }
    return {name: value for name, value in values.items() if value is not None}


# The filter that bounds an order at the end where its first page begins.
BEGINNINGS = {
    ("price", False): "price_min",
    ("price", True): "price_max",
    ("name", False): "prefix",
    ("name", True): "prefix_end",
}


def _page_values(query: Query, filters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a page's statement, by name.

    Where a filter and the cursor bound the same end of the order, the looser of them excludes nothing and is left out:
    an index scan starts at one bound, and if that were the filter's, a deep page would read all rows before it.
    """
    values = {**filters, "fetched": query.limit + 1}  # one row more shows whether there is a next page
    if query.offset:
        values["offset"] = query.offset
    if query.after is not None:
        value, last_id = query.after
        beginning = BEGINNINGS.get((query.order, query.descending), "")
        if beginning in values:
            bound = values[beginning]
            # The end of the prefix is itself excluded, so a cursor on it is the looser bound.
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
