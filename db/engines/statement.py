"""SQL statements that are compiled once."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import DateTime, Dialect, Select, UpdateBase
from sqlalchemy.types import TypeEngine

# For timestamps, whose decoding is half of the driver's work for a page: most rows were never changed since they were
# created, those of one batch were created at once, and pages are read again.
cached = lru_cache(maxsize=1024)


class Statement:
    """SQL compiled once for one dialect, and the order of its arguments.

    Sessions execute `source`; batchers send the SQL of `for_batchers`, if given, or else of `source`. With
    `native_types` the driver accepts and returns Python's own values; else SQLAlchemy's types convert them.
    """

    def __init__(
        self,
        source: "Select[Any] | UpdateBase",
        dialect: Dialect,
        *,
        native_types: bool,
        for_batchers: "Select[Any] | UpdateBase | None" = None,
    ) -> None:
        compiled = (source if for_batchers is None else for_batchers).compile(dialect=dialect)
        self.source = source
        self.sql = str(compiled)
        self.writes = isinstance(source, UpdateBase)
        self.is_secret = False  # whether its arguments may be secrets, which no log is to have
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._bind_processors: dict[str, Callable[[Any], Any]] = {}
        self._result_processors: list[Callable[[Any], Any] | None] | None = None
        if native_types:
            return
        for name, bind in compiled.binds.items():
            if (process := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None:
                self._bind_processors[name] = process
        columns = source.selected_columns if isinstance(source, Select) else source.exported_columns
        self._result_processors = [_result_processor(column.type, dialect) for column in columns]

    def arguments(self, values: Mapping[str, Any], **more: Any) -> list[Any]:
        """Return named values in the order of the SQL's parameters; `more` adds to them."""
        values = {**self._constants, **values, **more}
        for name, process in self._bind_processors.items():
            values[name] = process(values[name])
        return [values[name] for name in self._names]

    def read(self, rows: list[Any]) -> list[Any]:
        """Return a driver's rows with Python values, converted where the driver has not done so."""
        if self._result_processors is None:
            return rows
        return [
            [
                value if process is None else process(value)
                for process, value in zip(self._result_processors, row, strict=True)
            ]
            for row in rows
        ]


@lru_cache(maxsize=64)  # one cache for all statements, and for all columns of a type
def _result_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    process = kind.dialect_impl(dialect).result_processor(dialect, None)
    return cached(process) if process and isinstance(kind, DateTime) else process
