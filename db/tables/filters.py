"""The filters of a list: each is a value, made of comparisons of a column with a parameter."""

from collections.abc import Callable, Iterator
from operator import eq, ge, le, lt
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam
from sqlalchemy.sql.elements import KeyedColumnElement


class Bound(NamedTuple):
    """A comparison of a column with a parameter of the statement."""

    parameter: str
    column: str
    compare: Callable[[Any, Any], ColumnElement[bool]]

    @property
    def order(self) -> str:
        """Return the order in which an index on (column, id) returns the rows that match."""
        return self.column if self.compare in {ge, le, lt} else "id"

    def clause(self, column: KeyedColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition on this column."""
        return self.compare(column, bindparam(self.parameter, type_=column.type))

    def excludes_no_more(self, limit: Any, value: Any) -> bool:
        """Return whether a cursor at `value`, in the direction of this bound, is looser than the bound at `limit`."""
        if self.compare is ge:
            return bool(value < limit)
        return bool(value > limit or (value == limit and self.compare is lt))


class Filter(NamedTuple):
    """A filter: its bounds, and the value of each, made from the filter's own; a bound of None is left out."""

    meaning: str  # "at least this": what a value of the column is
    bounds: tuple[Bound, ...]
    values: Callable[[Any], tuple[Any, ...]] = lambda value: (value,)
    compares: bool = True  # with a value of the column; else the filter's own value is true or false

    @property
    def column(self) -> str:
        """Return the column that is filtered by."""
        return self.bounds[0].column

    @property
    def is_prefix(self) -> bool:
        """Return whether it selects the texts that start with its value."""
        return [bound.compare for bound in self.bounds] == [ge, lt]

    def parameters(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the parameters of the filter at this value."""
        for bound, limit in zip(self.bounds, self.values(value), strict=True):
            if limit is not None:
                yield bound.parameter, limit


def equals(column: str) -> Filter:
    """Return a filter for the rows with one value."""
    return Filter("this", (Bound(column, column, eq),))


def at_least(column: str) -> Filter:
    """Return a filter for the rows from a value on."""
    return Filter("at least this", (Bound(f"{column}_min", column, ge),))


def at_most(column: str) -> Filter:
    """Return a filter for the rows up to a value."""
    return Filter("at most this", (Bound(f"{column}_max", column, le),))


def starts_with(column: str) -> Filter:
    """Return a filter for the texts with a prefix, by code point: a range of the column's index."""
    bounds = (Bound(f"{column}_from", column, ge), Bound(f"{column}_to", column, lt))
    return Filter("a text that starts with this", bounds, lambda prefix: (prefix, successor(prefix)))


def is_set(column: str) -> Filter:
    """Return a filter for the rows that have, or have not, a value: it takes no parameter of the statement."""
    bounds = (
        Bound(f"{column}_set", column, lambda left, _: left.is_not(None)),
        Bound(f"{column}_null", column, lambda left, _: left.is_(None)),
    )
    return Filter("set, or is not", bounds, lambda value: (value or None, not value or None), compares=False)


def successor(prefix: str) -> str | None:
    """Return the first string, by code point, after all that start with the prefix; None if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # noqa: PLR2004 - surrogates are no characters
