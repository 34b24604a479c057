"""Keyset pagination: the filters, orders and pages of a list. A deep page costs what the first one costs."""

from collections.abc import Callable
from operator import ge, le, lt
from typing import Any, Generic, TypeVar

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, Integer, Select, bindparam, func, literal_column, select
from sqlalchemy.sql.elements import KeyedColumnElement

from db.engines.database import Connection, Database
from db.engines.statement import Statement
from db.tables.filters import Bound
from db.tables.keyset import in_order
from db.tables.table import Table

T = TypeVar("T")

# To sort so many takes about as long as to find a hundred of them in a scan of a million rows.
SORTED_ROWS_MAX = 10_000
STATEMENTS_MAX = 512  # of a table's thousands of combinations of filters, orders and cursors; 10 KiB each


class Query(Struct, frozen=True):
    """The filters and the order of a list, and the position of a page in it."""

    order: str = "id"
    descending: bool = False
    after: tuple[Any, int] | None = None  # the cursor: the ordered value and the id of the previous page's last row
    limit: int = 100
    offset: int = 0
    filters: tuple[tuple[str, Any], ...] = ()  # by the names of the table's filters, each once
    count: bool = False


class Page(Struct, Generic[T], weakref=True, eq=False):
    """A page of a list: one object for all requests for it that were deduplicated."""

    rows: list[T]
    more: bool
    total: int | None = None


class KeysetPaginator:
    """The statements of a list, each compiled when its combination of filters is first requested."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._columns = table.core.c
        bounds = [bound for one in table.filters.values() for bound in one.bounds]
        self._bounds = {bound.parameter: bound for bound in bounds}
        if len(self._bounds) < len(bounds):
            raise TypeError(f"two filters of {table.name} have the same bound")
        self._statements: dict[tuple[object, ...], Statement] = {}

    async def fetch(self, connection: Connection, query: Query) -> tuple[list[Any], bool, int | None]:
        """Return a page's rows, whether more follow, and the number of all rows of the list if `query.count` is set."""
        filters = self._filters(query)
        total = None
        if query.count:
            counts = await connection.fetch(self._statement(("count", *filters), lambda: self._count(filters)), filters)
            total = counts[0][0]
        values = self._page_values(query, filters)
        broad = await self._broad(connection, query, filters)
        variant = (query.order, query.descending, broad, *values)
        rows = await connection.fetch(self._statement(variant, lambda: self._page(query, values, broad)), values)
        return rows[: query.limit], len(rows) > query.limit, total

    def _filters(self, query: Query) -> dict[str, Any]:
        """Return the filters' parameters, by name; a bound that does not apply has none, and no clause."""
        values: dict[str, Any] = {}
        for name, value in query.filters:
            one = self._table.filters[name]
            # Folded first: a prefix ends where the folded one does.
            values.update(one.parameters(self._table.comparable(one.column, value) if one.compares else value))
        return values

    async def _broad(self, connection: Connection, query: Query, filters: dict[str, Any]) -> frozenset[str]:
        """Return the filters that match too many rows to be looked up by their index and sorted.

        A planner with statistics knows them. One without assumes that every filter matches few rows, and would sort a
        million rows for a page; so the statement marks these filters, after a count of no more rows than may be sorted.
        """
        other_order = {name: value for name, value in filters.items() if self._bounds[name].order != query.order}
        if self._database.has_statistics or not other_order:
            return frozenset()
        counts = await connection.fetch(
            self._statement(("count up to", *other_order), lambda: self._count_up_to_max(other_order)), other_order
        )
        return frozenset(other_order if counts[0][0] == SORTED_ROWS_MAX else ())

    def _count_up_to_max(self, filters: dict[str, Any]) -> "Select[Any]":
        matching = select(self._columns.id).where(*self._where(filters)).limit(literal_column(str(SORTED_ROWS_MAX)))
        return select(func.count()).select_from(matching.subquery())

    def _statement(self, variant: tuple[object, ...], make: "Callable[[], Select[Any]]") -> Statement:
        statement = self._statements.get(variant)
        if statement is None:
            if len(self._statements) == STATEMENTS_MAX:
                del self._statements[next(iter(self._statements))]  # the oldest
            statement = self._statements[variant] = self._database.statement(make())
        return statement

    def _column(self, field: str) -> KeyedColumnElement[Any]:
        return self._columns[self._table.compared(field)]

    def _where(self, values: dict[str, Any], broad: frozenset[str] = frozenset()) -> list[ColumnElement[bool]]:
        bounds = [bound for name, bound in self._bounds.items() if name in values]
        clauses = {bound.parameter: bound.clause(self._column(bound.column)) for bound in bounds}
        return [func.likely(clause) if name in broad else clause for name, clause in clauses.items()]

    def _count(self, values: dict[str, Any]) -> "Select[Any]":
        return select(func.count()).select_from(self._table.core).where(*self._where(values))

    def _page(self, query: Query, values: dict[str, Any], broad: frozenset[str]) -> "Select[Any]":
        after: list[ColumnElement[Any]] = []
        if "after_id" in values:
            after = [bindparam("after_id", type_=BigInteger())]
            if query.order != "id":
                after.insert(0, bindparam("after_value", type_=self._column(query.order).type))
        page = in_order(self._table, query.order, descending=query.descending, after=after)
        page = page.where(*self._where(values, broad)).limit(bindparam("page_rows", type_=Integer()))
        return page.offset(bindparam("page_offset", type_=Integer())) if "page_offset" in values else page

    def _page_values(self, query: Query, filters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of a page's statement, by name.

        Where a filter and the cursor bound the same end of the order, the looser of them excludes nothing and is left
        out: an index scan starts at one bound, and if that were the filter's, a deep page would read all rows before
        it.
        """
        values = {**filters, "page_rows": query.limit + 1}  # one row more shows whether there is a next page
        if query.offset:
            values["page_offset"] = query.offset
        if query.after is not None:
            value, last_id = self._table.comparable(query.order, query.after[0]), query.after[1]
            beginning = self._beginning(query, filters)
            if beginning is not None:
                if beginning.excludes_no_more(filters[beginning.parameter], value):
                    return values
                del values[beginning.parameter]
            values["after_id"] = last_id
            if query.order != "id":
                values["after_value"] = value
        return values

    def _beginning(self, query: Query, filters: dict[str, Any]) -> Bound | None:
        """Return the filter's bound of the order at the end where its first page begins."""
        compare = {le, lt} if query.descending else {ge}
        bounds = (self._bounds[name] for name in filters)
        return next((each for each in bounds if each.column == query.order and each.compare in compare), None)
