"""Any number of rows as one bound SQL expression, so that one statement, and one plan, serves every size of batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy import ColumnElement, FromClause, Text, any_, bindparam, column, func, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

ORDINALITY = "position"


class RowParameter(Protocol):
    """Bound rows that a statement reads like a table: the columns it was made of, and POSITION, their order."""

    table: FromClause

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Return the condition that a batch of one column has the subject among its values."""

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the statement's arguments for these rows, of which there is at least one."""


class UnnestRows:
    """PostgreSQL: one array for each column, unnested side by side."""

    def __init__(self, columns: Mapping[str, TypeEngine[Any]]) -> None:
        # SQLAlchemy keeps the columns' own names for values that an INSERT or UPDATE is given directly.
        self._names = [f"rows_{name}" for name in columns]
        self._arrays = [
            bindparam(name, type_=ARRAY(kind)) for name, kind in zip(self._names, columns.values(), strict=True)
        ]
        fields = [column(name, kind) for name, kind in columns.items()]
        unnested = func.unnest(*self._arrays).table_valued(*fields, with_ordinality=ORDINALITY)
        self.table: FromClause = unnested.render_derived("rows")

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Compare with the array itself: the plan is an index scan, not a join."""
        return subject == any_(self._arrays[0])

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Turn rows into columns."""
        return dict(zip(self._names, zip(*rows, strict=True), strict=True))


class JsonEachRows:
    """SQLite: one JSON array of arrays, read by json_each."""

    def __init__(self, columns: Mapping[str, TypeEngine[Any]]) -> None:
        element = func.json_each(bindparam("rows", type_=Text())).table_valued("key", "value", name="element")
        fields = [
            element.c.value.op("->>", return_type=kind)(literal_column(str(index))).label(name)
            for index, (name, kind) in enumerate(columns.items())
        ]
        self._first = fields[0]
        self.table: FromClause = select(*fields, element.c.key.label(ORDINALITY)).subquery("rows")

    def contains(self, subject: ColumnElement[Any]) -> ColumnElement[bool]:
        """Look the values up one by one in the subject's index."""
        return subject.in_(select(self._first))

    def bind(self, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the JSON as text: a blob would be taken for SQLite's own binary JSON."""
        return {"rows": msgspec.json.encode(rows).decode()}
