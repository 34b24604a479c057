"""Column types and SQL functions that mean the same on both databases."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ARRAY, JSON, BigInteger, DateTime, Dialect, Double, Integer, String, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine


class WholeSecond(datetime):
    """A timestamp without a fraction of a second, as a type of its own: encoders may write that fraction, too."""


def timestamp(value: datetime) -> datetime:
    """Return a timestamp, as a WholeSecond if it is one."""
    if value.microsecond:
        return value
    return WholeSecond.combine(value.date(), value.timetz())


def in_utc(value: datetime) -> datetime:
    """Return a time in UTC, in which one without a zone is."""
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class PostgreSQLTimestamp(TypeDecorator[datetime]):
    """An aware datetime, as sessions read it; batchers read integers (engines/timestamps.py)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the stored time; asyncpg reads infinity, as which it writes the last moment, without a zone."""
        return value and timestamp(value if value.tzinfo else value.replace(tzinfo=UTC))


class SQLiteTimestamp(TypeDecorator[datetime]):
    """An aware UTC datetime, which SQLite stores as text without a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the UTC wall clock, so that the order of the texts is the order of time."""
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the stored time with its zone, UTC."""
        return value and timestamp(in_utc(value))


class SQLiteFloat64(TypeDecorator[float]):
    """A float, which SQLite's RETURNING returns as an integer if it has no fraction."""

    impl = Double
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        """Return the value as a float."""
        return value if value is None else float(value)


# Variants, so that on PostgreSQL no Python code runs between the driver and the value; of timestamps only in sessions.
Timestamp = (
    DateTime(timezone=True).with_variant(SQLiteTimestamp(), "sqlite").with_variant(PostgreSQLTimestamp(), "postgresql")
)
Float64: TypeEngine[float] = Double().with_variant(SQLiteFloat64(), "sqlite")
# SQLite generates ids only for an INTEGER PRIMARY KEY; PostgreSQL sorts by code point only with the collation C.
BigIntId = BigInteger().with_variant(Integer(), "sqlite")
Ids = ARRAY(BigInteger).with_variant(JSON(), "sqlite")
Name = String(255).with_variant(String(255, collation="C"), "postgresql")


class utc_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The time by the database's clock; it is the same for every row of one statement."""

    type = Timestamp
    inherit_cache = True


class seconds_ago(FunctionElement[datetime]):  # noqa: N801 - as above
    """The time by the database's clock, so many seconds ago; it is comparable to what `utc_now` stored in a row."""

    type = Timestamp
    inherit_cache = True

    def __init__(self, seconds: int) -> None:
        super().__init__(bindparam("seconds", seconds, type_=Integer()))


def fold(text: str) -> str:
    """Return a text in Unicode's simple case folding: character by character, so that its length stays.

    It has the mappings of the statuses C and S in CaseFolding.txt, which SQLite has no function for, and PostgreSQL
    only with some collations.
    """
    return text.lower() if text.isascii() else "".join(map(_folded, text))


def _folded(character: str) -> str:
    # casefold() has the statuses C and F; where F has several characters, lower() has what S has. Tried on all of
    # Unicode 14; three characters that have an S since 15.1 (U+1FD3, U+1FE3, U+FB05) stay as they are.
    candidates = (character.casefold(), character.lower(), character)
    return next(each for each in candidates if len(each) == 1)


@compiles(utc_now)
def _utc_now(_element: object, _compiler: object, **_options: Any) -> str:
    return "now()"


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(_element: object, _compiler: object, **_options: Any) -> str:
    # Six digits, as SQLAlchemy writes them: one width, so that text order is time order.
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


@compiles(seconds_ago)
def _seconds_ago(element: seconds_ago, compiler: SQLCompiler, **options: Any) -> str:
    return f"now() - make_interval(secs => {compiler.process(element.clauses, **options)})"


@compiles(seconds_ago, "sqlite")
def _seconds_ago_sqlite(element: seconds_ago, compiler: SQLCompiler, **options: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', -{compiler.process(element.clauses, **options)} || ' seconds')"
