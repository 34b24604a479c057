"""Pages of a list without filters: those that are queued at the same time share a statement, as rows by id do.

Such a page is a range of its order's index, wherever it begins. So its statement is planned once, and reads several
pages, each by a lookup of its own: any number of them by LATERAL, or up to PAGES_MAX by a UNION ALL of as many SELECTs,
of which those that are not needed return no rows.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    Select,
    bindparam,
    literal_column,
    select,
    true,
    union_all,
)
from sqlalchemy.types import TypeEngine

from db.engines.database import Connection, Database
from db.engines.row_parameters import ORDINALITY
from db.engines.statement import Statement
from db.tables.keyset import in_order
from db.tables.pagination import Query
from db.tables.table import PARAMETER_TYPES, Table

# PAGES_MAX is also the number of SELECTs in the UNION ALL. Ten pages of a hundred rows hold the event loop for two
# milliseconds, and more would save nothing more.
PAGES_MAX, PAGE_ROWS_MAX = 10, 100
PAGE_ROWS = "page_rows"  # the parameter with a page's limit

Read = Literal["first", "next", "several"]  # a list's first page, one that follows a row, or several of those
Position = tuple[Any, ...]  # of the row before a page: the value that the list is ordered by, if any, and the id


class BatchedPages:
    """The statements of these pages, in each order, each made when it is first needed."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._positions = {order: database.rows(**self._position_types(order)) for order in table.orders}
        self._statements: dict[tuple[str, bool, Read], Statement] = {}

    @staticmethod
    def includes(query: Query) -> bool:
        """Return whether a page is one of these."""
        return query.limit <= PAGE_ROWS_MAX and not (query.filters or query.offset or query.count)

    @staticmethod
    def key(query: Query) -> Hashable:
        """Return what the pages of one statement have in common."""
        return query.order, query.descending, query.limit, query.after is None

    async def fetch(self, connection: Connection, queries: Sequence[Query]) -> list[list[Any]]:
        """Return the rows of up to PAGES_MAX pages with one key, each time with one row more if there is one."""
        if len(queries) > PAGES_MAX:
            raise ValueError(f"{len(queries)} pages for {PAGES_MAX} places")
        query = queries[0]
        positions = [self._position(query.order, *each.after) for each in queries if each.after is not None]
        if len(positions) > 1:
            return await self._fetch_several(connection, query, positions)
        arguments = self._arguments(query, *positions)
        rows = await connection.fetch(self._statement(query, "next" if positions else "first"), arguments)
        return [rows] * len(queries)  # without a position they are equal

    async def _fetch_several(
        self, connection: Connection, query: Query, positions: Sequence[Position]
    ) -> list[list[Any]]:
        if self._database.has_lateral:
            arguments = self._arguments(query) | self._positions[query.order].bind(positions)
        else:
            arguments = self._numbered_arguments(query, positions)
        pages: list[list[Any]] = [[] for _ in positions]
        for row in await connection.fetch(self._statement(query, "several"), arguments):
            pages[row[0] - 1].append(row[1:])
        return pages

    def _arguments(self, query: Query, position: Position = ()) -> dict[str, Any]:
        # One row more shows whether there is a next page.
        return {PAGE_ROWS: query.limit + 1, **dict(zip(self._position_types(query.order), position, strict=False))}

    def _numbered_arguments(self, query: Query, positions: Sequence[Position]) -> dict[str, Any]:
        nothing = {**self._arguments(query, positions[0]), PAGE_ROWS: 0}
        pages = [self._arguments(query, position) for position in positions]
        pages += [nothing] * (PAGES_MAX - len(pages))
        return {f"{name}_{number}": value for number, page in enumerate(pages) for name, value in page.items()}

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

    def _select(self, query: Query, read: Read) -> Select[Any] | CompoundSelect[Any]:
        """Return the SELECT of one page, or of several with their numbers."""
        if read == "several":
            return self._lateral(query) if self._database.has_lateral else self._union(query)
        return self._page(query, self._parameters(query.order) if read == "next" else [])

    def _lateral(self, query: Query) -> Select[Any]:
        positions = self._positions[query.order].table
        start = [positions.c[name] for name in self._position_types(query.order)]
        each = self._page(query, start, positions).lateral("page")
        return select(positions.c[ORDINALITY], *each.c).select_from(positions.join(each, true()))

    def _union(self, query: Query) -> CompoundSelect[Any]:
        """Return the UNION ALL of numbered pages; SQLite runs one after the other, each in its own order."""
        suffixes = [f"_{number}" for number in range(PAGES_MAX)]
        pages = [self._page(query, self._parameters(query.order, each), suffix=each).subquery() for each in suffixes]
        return union_all(
            *(
                select(literal_column(str(number), Integer()).label(ORDINALITY), *page.c)
                for number, page in enumerate(pages, 1)
            )
        )

    def _parameters(self, order: str, suffix: str = "") -> list[ColumnElement[Any]]:
        return [bindparam(name + suffix, type_=kind) for name, kind in self._position_types(order).items()]

    def _page(
        self, query: Query, start: Sequence[ColumnElement[Any]], *outer: FromClause, suffix: str = ""
    ) -> Select[Any]:
        """Return the SELECT of one page: after `start`, if given, which may be columns of an `outer` table.

        PostgreSQL's planner takes a limit that is a parameter for a tenth of the table: at millions of rows it would
        have the statement compiled each time (jit_above_cost). So the page is limited twice there, as a limit and a
        nested loop pass rows on in the order in which they come.
        """
        page = in_order(self._table, query.order, descending=query.descending, after=start)
        if outer:
            page = page.correlate(*outer)
        limit = bindparam(PAGE_ROWS + suffix, type_=Integer())
        if not self._database.has_lateral:
            return page.limit(limit)
        most = page.limit(literal_column(str(PAGE_ROWS_MAX + 1))).lateral("most")
        limited = select(*most.c).limit(limit)
        return limited.correlate(*outer) if outer else limited
