"""Row parameters: any number of rows as one bound value, so that one statement serves any batch size."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Protocol

import msgspec
from sqlalchemy import ColumnElement, DateTime, FromClause, Text, any_, bindparam, column, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S.%f"  # SQLAlchemy's for SQLite
ORDINALITY = "ordinality"


class RowParameter(Protocol):
    """Bound rows that a statement reads like a table: its columns, and ORDINALITY, the number of each row in order."""

    table: FromClause

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that `subject` is one of the values of the first column."""

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the arguments of a statement for these rows, at least one, each with a value for every column."""


class UnnestRows:
    """A row parameter of PostgreSQL: one array for each column, unnested side by side."""

    def __init__(self, columns: Mapping[str, TypeEngine[Any]]) -> None:
        # SQLAlchemy reserves the columns' own names for the values of an INSERT or UPDATE itself.
        self._names = [f"rows_{name}" for name in columns]
        self._arrays = [
            bindparam(name, type_=ARRAY(kind)) for name, kind in zip(self._names, columns.values(), strict=True)
        ]
        fields = [column(name, kind) for name, kind in columns.items()]
        unnested = func.unnest(*self._arrays).table_valued(*fields, with_ordinality=ORDINALITY)
        self.table: FromClause = unnested.render_derived("rows")

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return a comparison with the array itself: its plan is an index scan, not a join."""
        return subject == any_(self._arrays[0])

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the rows as one array for each column."""
        return dict(zip(self._names, zip(*rows, strict=True), strict=True))


class JsonEachRows:
    """A row parameter of SQLite: one JSON array of arrays, read by json_each."""

    def __init__(self, columns: Mapping[str, TypeEngine[Any]]) -> None:
        element = func.json_each(bindparam("rows", type_=Text())).table_valued("key", "value", name="element")
        fields = [
            element.c.value.op("->>", return_type=kind)(literal_column(str(index))).label(name)
            for index, (name, kind) in enumerate(columns.items())
        ]
        self._first = fields[0]
        self._timestamps = [index for index, kind in enumerate(columns.values()) if isinstance(kind, DateTime)]
        self.table: FromClause = select(*fields, element.c.key.label(ORDINALITY)).subquery("rows")

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return an IN over the first column: its plan looks the values up in the index of `subject`."""
        return subject.in_(select(self._first))

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the rows as JSON text: SQLite would take a blob for its own binary JSON."""
        if self._timestamps:
            rows = [self._with_texts(row) for row in rows]
        return {"rows": msgspec.json.encode(rows).decode()}

    def _with_texts(self, row: Sequence[Any]) -> list[Any]:
        """Return a row with its timestamps as SQLite stores them."""
        values = list(row)
        for index in self._timestamps:
            values[index] = values[index] and values[index].astimezone(UTC).strftime(TIMESTAMP_FORMAT)
        return values
