"""SQL statements that are compiled once, and the conversion of their arguments and rows."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import DateTime, Dialect, Select, UpdateBase
from sqlalchemy.types import TypeEngine

# For timestamps, whose decoding is half of the driver's work for a page: most rows were never changed since they were
# created, those of one batch were created at once, and pages are read again.
cached = lru_cache(maxsize=1024)


class Converters(Protocol):
    """What converts values between Python and a driver, by the type of the argument or column; None: nothing has to."""

    def to_driver(self, kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        """Return what converts an argument."""

    def from_driver(self, kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        """Return what converts a column's value."""


class TypeConverters:
    """SQLAlchemy's conversions, by the types of a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def to_driver(self, kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        """Return what converts an argument."""
        return kind.dialect_impl(self._dialect).bind_processor(self._dialect)

    def from_driver(self, kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
        """Return what converts a column's value."""
        return _result_processor(kind, self._dialect)


class Statement:
    """SQL compiled once for one dialect, the order of its arguments, and how these and its rows are converted.

    Sessions execute `source`; batchers send the SQL of `for_batchers`, if given, or else of `source`.
    """

    def __init__(
        self,
        source: "Select[Any] | UpdateBase",
        dialect: Dialect,
        converters: Converters,
        *,
        for_batchers: "Select[Any] | UpdateBase | None" = None,
    ) -> None:
        compiled = (source if for_batchers is None else for_batchers).compile(dialect=dialect)
        self.source = source
        self.sql = str(compiled)
        self.writes = isinstance(source, UpdateBase)
        self.is_secret = False  # whether its arguments may be secrets, which no log is to have
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        arguments = ((name, converters.to_driver(bind.type)) for name, bind in compiled.binds.items())
        self._converted_arguments = [(name, convert) for name, convert in arguments if convert]
        columns = source.selected_columns if isinstance(source, Select) else source.exported_columns
        values = ((place, converters.from_driver(column.type)) for place, column in enumerate(columns))
        self._converted_columns = [(place, convert) for place, convert in values if convert]

    def arguments(self, values: Mapping[str, Any], **more: Any) -> list[Any]:
        """Return named values in the order of the SQL's parameters; `more` adds to them."""
        values = {**self._constants, **values, **more}
        for name, convert in self._converted_arguments:
            values[name] = convert(values[name])
        return [values[name] for name in self._names]

    def read(self, rows: list[Any]) -> list[Any]:
        """Return a driver's rows with Python values; they are converted column by column, without a step for each."""
        if not rows or not self._converted_columns:
            return rows
        columns: list[Any] = list(zip(*rows, strict=True))
        for place, convert in self._converted_columns:
            columns[place] = map(convert, columns[place])
        return list(zip(*columns, strict=True))


@lru_cache(maxsize=64)  # one cache for all statements, and for all columns of a type
def _result_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    process = kind.dialect_impl(dialect).result_processor(dialect, None)
    return cached(process) if process and isinstance(kind, DateTime) else process
