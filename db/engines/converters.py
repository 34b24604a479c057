"""What converts values between Python and a driver, by the type of an argument or of a column."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import ARRAY, DateTime, Dialect, Double
from sqlalchemy.types import TypeEngine

from db.engines.timestamps import microseconds_of, timestamp_of, timestamp_of_text

Convert = Callable[[Any], Any]  # of a value that may be None


class Converters(Protocol):
    """The conversions for a driver; None where it takes or returns Python's own values."""

    def to_driver(self, kind: TypeEngine[Any]) -> Convert | None:
        """Return what converts an argument."""

    def from_driver(self, kind: TypeEngine[Any], *, returning: bool) -> Convert | None:
        """Return what converts a column's value, of a SELECT or of RETURNING."""


class AsyncpgConverters:
    """The conversions for asyncpg that has timestamps as integers."""

    def to_driver(self, kind: TypeEngine[Any]) -> Convert | None:
        """Return what converts an argument."""
        if isinstance(kind, ARRAY):
            return (lambda times: list(map(microseconds_of, times))) if isinstance(kind.item_type, DateTime) else None
        return microseconds_of if isinstance(kind, DateTime) else None

    def from_driver(self, kind: TypeEngine[Any], *, returning: bool) -> Convert | None:  # noqa: ARG002 - both are alike
        """Return what converts a column's value, of a SELECT or of RETURNING."""
        return _from_microseconds if isinstance(kind, DateTime) else None


class SQLiteConverters:
    """The conversions for sqlite3: SQLAlchemy's, but for reading timestamps, for which those take 1.3 µs each.

    Doubles are converted only of RETURNING, which returns those without a fraction as integers.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def to_driver(self, kind: TypeEngine[Any]) -> Convert | None:
        """Return what converts an argument."""
        return kind.dialect_impl(self._dialect).bind_processor(self._dialect)

    def from_driver(self, kind: TypeEngine[Any], *, returning: bool) -> Convert | None:
        """Return what converts a column's value, of a SELECT or of RETURNING."""
        if isinstance(kind, DateTime):
            return _from_text
        if isinstance(kind, Double) and not returning:  # a SELECT applies the column's affinity
            return None
        return kind.dialect_impl(self._dialect).result_processor(self._dialect, None)


# Most rows were never changed since they were created, those of one batch were created at once, and pages are read
# again: a timestamp that was converted is looked up in half of the time.
@lru_cache(maxsize=1024)
def _from_microseconds(microseconds: int | None) -> Any:
    return None if microseconds is None else timestamp_of(microseconds)


@lru_cache(maxsize=1024)
def _from_text(text: str | None) -> Any:
    return None if text is None else timestamp_of_text(text)
