"""Pages of a list without filters: those that are queued at the same time share a statement, as rows by id do.

Such a page is a range of its order's index, wherever it begins. So its statement is planned once, and reads any number
of pages, each by a lookup of its own. It needs LATERAL, which SQLite lacks.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Integer, Select, bindparam, literal_column, select, true, tuple_
from sqlalchemy.types import TypeEngine

from db.engines.database import Connection, Database
from db.engines.row_parameters import ORDINALITY
from db.engines.statement import Statement
from db.tables.pagination import Query
from db.tables.table import PARAMETER_TYPES, Table

# Ten pages of a hundred rows hold the event loop for two milliseconds, and more of them would save nothing more.
PAGES_MAX, PAGE_ROWS_MAX = 10, 100

Read = Literal["first", "next", "several"]  # a list's first page, one that follows a row, or several of those
Position = tuple[Any, ...]  # of the row before a page: the value that the list is ordered by, if any, and the id


class BatchedPages:
    """The statements of these pages, in each order, each made when it is first needed."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._positions = {order: database.rows(**self._position_types(order)) for order in table.orders}
        self._statements: dict[tuple[str, bool, Read], Statement] = {}

    def has(self, query: Query) -> bool:
        """Return whether a page is one of these."""
        is_whole = not (query.filters or query.offset or query.count)
        return is_whole and query.limit <= PAGE_ROWS_MAX and self._database.has_lateral

    @staticmethod
    def key(query: Query) -> Hashable:
        """Return what the pages of one statement have in common."""
        return query.order, query.descending, query.limit, query.after is None

    async def fetch(self, connection: Connection, queries: Sequence[Query]) -> list[list[Any]]:
        """Return the rows of pages with one key, each time with one row more if there is one."""
        positions = [self._position(query.order, *query.after) for query in queries if query.after is not None]
        if len(positions) > 1:
            return await self._fetch_several(connection, queries[0], positions)
        arguments = self._page_rows(queries[0])
        for position in positions:
            arguments.update(zip(self._position_types(queries[0].order), position, strict=True))
        rows = await connection.fetch(self._statement(queries[0], "next" if positions else "first"), arguments)
        return [rows] * len(queries)  # without a position they are equal

    async def _fetch_several(
        self, connection: Connection, query: Query, positions: Sequence[Position]
    ) -> list[list[Any]]:
        arguments = self._page_rows(query) | self._positions[query.order].bind(positions)
        pages: list[list[Any]] = [[] for _ in positions]
        for row in await connection.fetch(self._statement(query, "several"), arguments):
            pages[row[0] - 1].append(row[1:])
        return pages

    @staticmethod
    def _page_rows(query: Query) -> dict[str, Any]:
        return {"page_rows": query.limit + 1}  # one row more shows whether there is a next page

    def _position(self, order: str, value: Any, id: int) -> Position:
        return (id,) if order == "id" else (self._table.comparable(order, value), id)

    def _position_types(self, order: str) -> dict[str, TypeEngine[Any]]:
        """Return the types of a position, by the names of its parameters."""
        if order == "id":
            return {"after_id": BigInteger()}
        return {"after_value": PARAMETER_TYPES[self._table.core.c[order].type.python_type], "after_id": BigInteger()}

    def _statement(self, query: Query, read: Read) -> Statement:
        key = query.order, query.descending, read
        if key not in self._statements:
            self._statements[key] = self._database.statement(self._select(query, read))
        return self._statements[key]

    def _select(self, query: Query, read: Read) -> "Select[Any]":
        """Return the SELECT of one page, or of several with their numbers.

        A page is limited twice, as the planner takes a limit that is a parameter for a tenth of the table: at millions
        of rows it would have the statement compiled each time (jit_above_cost). A limit and a nested loop pass rows on
        in the order in which they come.
        """
        positions = self._positions[query.order].table
        order = [self._table.core.c[name] for name in dict.fromkeys((self._table.compared(query.order), "id"))]
        page = select(*self._table.columns)
        if read != "first":
            page = page.where(_is_after(order, self._start(query.order, read), query)).correlate(positions)
        page = page.order_by(*(column.desc() if query.descending else column for column in order))
        most = page.limit(literal_column(str(PAGE_ROWS_MAX + 1))).lateral("most")
        limited = select(*most.c).limit(bindparam("page_rows", type_=Integer()))
        if read != "several":
            return limited
        each = limited.correlate(positions).lateral("page")
        return select(positions.c[ORDINALITY], *each.c).select_from(positions.join(each, true()))

    def _start(self, order: str, read: Read) -> list[ColumnElement[Any]]:
        """Return the position before a page: of its row parameter, or as arguments."""
        if read == "several":
            return [self._positions[order].table.c[name] for name in self._position_types(order)]
        return [bindparam(name, type_=kind) for name, kind in self._position_types(order).items()]


def _is_after(order: Sequence[ColumnElement[Any]], start: Sequence[ColumnElement[Any]], query: Query) -> Any:
    row, position = tuple_(*order), tuple_(*start)
    return row < position if query.descending else row > position
