"""Statements: SQL that is compiled once."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, Dialect, Select, UpdateBase
from sqlalchemy.types import TypeEngine

# For moments, which are half of what the driver does for a page: most rows were never changed since they were made,
# those of one batch were made at once, and pages are read again.
remembered = lru_cache(maxsize=1024)


class Statement:
    """SQL that was compiled once, for one dialect, with the order of its arguments.

    Batchers send `sent`, if there is one, in place of the source, which sessions send. With `native_types` the driver
    takes and gives Python's own values; around any other, SQLAlchemy's types translate.
    """

    def __init__(
        self,
        source: "Select[Any] | UpdateBase",
        dialect: Dialect,
        *,
        native_types: bool,
        sent: "Select[Any] | UpdateBase | None" = None,
    ) -> None:
        compiled = (source if sent is None else sent).compile(dialect=dialect)
        self.source = source
        self.sql = str(compiled)
        self.writes = isinstance(source, UpdateBase)
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._into: dict[str, Callable[[Any], Any]] = {}
        self._out_of: list[Callable[[Any], Any] | None] | None = None
        if native_types:
            return
        for name, bind in compiled.binds.items():
            if (process := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None:
                self._into[name] = process
        columns = source.selected_columns if isinstance(source, Select) else source.exported_columns
        self._out_of = [_result_processor(column.type, dialect) for column in columns]

    def arguments(self, values: Mapping[str, Any], **more: Any) -> list[Any]:
        """Put named values in the order that the SQL wants."""
        values = {**self._constants, **values, **more}
        for name, process in self._into.items():
            values[name] = process(values[name])
        return [values[name] for name in self._names]

    def read(self, rows: list[Any]) -> list[Any]:
        """Turn what the driver gives into Python values, where the driver does not."""
        if self._out_of is None:
            return rows
        return [
            [value if process is None else process(value) for process, value in zip(self._out_of, row, strict=True)]
            for row in rows
        ]


@lru_cache(maxsize=64)  # one memory for all statements, and for all columns of a type
def _result_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    process = kind.dialect_impl(dialect).result_processor(dialect, None)
    return remembered(process) if process and isinstance(kind, DateTime) else process
