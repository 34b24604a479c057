"""Lists: their pages, the links between these, and the encodings that requests for one page share."""

from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus
from weakref import WeakKeyDictionary

from msgspec import UNSET, Struct

from db.tables.call import Call
from db.tables.pagination import Page, Query
from db.tables.store import Store
from db.tables.table import Table
from service.http.cursors import Cursors
from service.http.problems import INVALID_QUERY, ProblemError
from service.http.query import CACHED_MAX
from service.http.response import Header, Result
from service.schemas import ListQuery, PageQuery

T = TypeVar("T", bound=Struct)


class Listing(Generic[T]):
    """The list of a table: its rows are Structs of one type, its filters those of the table.

    `within` is the filter whose value the path has, and no query.
    """

    def __init__(self, table: Table, kind: type[T], within: str | None = None) -> None:
        self.cursors = Cursors(table.name, kind, table.orders)
        self._here = table.name  # relative to the list's own URL, wherever a proxy has it (RFC 8288, section 3.1)
        self._within = within
        self._filters = tuple(name for name in table.filters if name != within)
        self._prefixes = {one.column: name for name, one in table.filters.items() if one.is_prefix}
        self._page_query = lru_cache(CACHED_MAX)(self._make_page_query)  # queries are cached, too
        # A page is one object for all requests that were deduplicated, and is forgotten with the last of them.
        self._results: WeakKeyDictionary[Page[T], Result[list[T]]] = WeakKeyDictionary()

    async def read(self, store: Store[T], call: Call, query: PageQuery, within: Any = None) -> Result[list[T]]:
        """Return a page with its headers, or the rows whose ids the query has. Raises a 400."""
        if isinstance(query, ListQuery) and query.ids is not UNSET:
            if query != type(query)(ids=query.ids):  # type: ignore[call-arg] # a resource's query has a default order
                raise ProblemError(INVALID_QUERY, "The parameter ids excludes all others.")
            return Result(await store.get_many(call, query.ids))
        page = await store.page(call, self._page_query(query, within))
        result = self._results.get(page)
        if result is None:
            result = self._results[page] = Result(page.rows, self._headers(page, query), {})
        return result

    def _make_page_query(self, query: PageQuery, within: Any) -> Query:
        values = [(name, getattr(query, name)) for name in self._filters]
        filters = tuple((name, value) for name, value in values if value is not UNSET)
        if self._within:
            filters += ((self._within, within),)
        after = None if query.after is UNSET else self.cursors.read(query.order, query.after, self._prefix(query))
        order, descending = query.order.removeprefix("-"), query.order.startswith("-")
        return Query(order, descending, after, query.limit, query.offset, filters, query.count)

    def _prefix(self, query: PageQuery) -> str:
        """Return what every value of the ordered field starts with."""
        name = self._prefixes.get(query.order.removeprefix("-"))
        value = getattr(query, name) if name else UNSET
        return "" if value is UNSET else value

    def _headers(self, page: Page[T], query: PageQuery) -> list[Header]:
        headers: list[Header] = []
        if page.more:
            given = [(name, getattr(query, name)) for name in self._filters]
            filters = "".join(f"&{name}={quote_plus(_text(value))}" for name, value in given if value is not UNSET)
            after = self.cursors.write(query.order, page.rows[-1], self._prefix(query))
            url = f"{self._here}?limit={query.limit}&order={query.order}{filters}&after={after}"
            headers.append((b"link", f'<{url}>; rel="next"'.encode()))
        if page.total is not None:
            headers.append((b"x-total-count", b"%d" % page.total))
        return headers


def _text(value: object) -> str:
    """Return the text of a query parameter."""
    return str(value).lower() if isinstance(value, bool) else str(value)
