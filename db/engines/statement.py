"""SQL statements that are compiled once, when they run first, and the conversion of their arguments and rows."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Dialect, Select, UpdateBase

from db.engines.converters import Convert, Converters

Source = Select[Any] | CompoundSelect[Any] | UpdateBase


class CompiledSQL(NamedTuple):
    """A compiled statement, and what converts its arguments and rows."""

    sql: str
    names: tuple[str, ...]  # of the arguments, in the order of the SQL
    constants: Mapping[str, Any]
    converted_arguments: list[tuple[str, Convert]]
    converted_columns: list[tuple[int, Convert]]


class Statement:
    """SQL compiled once for one dialect, the order of its arguments, and how these and its rows are converted.

    Sessions execute `source`; batchers send the SQL of `for_batchers`, if given, or else of `source`.

    It is compiled when it runs first, in 1 to 3 ms: a worker has some forty from its start, and few of them run soon.
    """

    def __init__(
        self,
        source: Source,
        dialect: Dialect,
        converters: Converters,
        *,
        for_batchers: Source | None = None,
    ) -> None:
        self.source = source
        self.writes = isinstance(source, UpdateBase)
        self.is_secret = False  # whether its arguments may be secrets, which no log is to have
        self._for_batchers = source if for_batchers is None else for_batchers
        self._dialect = dialect
        self._converters = converters

    @property
    def sql(self) -> str:
        """The SQL for batchers."""
        return self._compiled.sql

    @cached_property
    def _compiled(self) -> CompiledSQL:
        source, converters = self.source, self._converters
        compiled = self._for_batchers.compile(dialect=self._dialect)
        columns = source.exported_columns if isinstance(source, UpdateBase) else source.selected_columns
        arguments = ((name, converters.to_driver(bind.type)) for name, bind in compiled.binds.items())
        values = (
            (place, converters.from_driver(column.type, returning=self.writes)) for place, column in enumerate(columns)
        )
        return CompiledSQL(
            sql=str(compiled),
            names=tuple(compiled.positiontup or ()),
            constants={name: value for name, value in compiled.params.items() if value is not None},
            converted_arguments=[(name, convert) for name, convert in arguments if convert],
            converted_columns=[(place, convert) for place, convert in values if convert],
        )

    def for_rows(self, values: Mapping[str, Any]) -> "tuple[Statement, Mapping[str, Any]]":
        """Return the statement that runs for the rows of these values, which may be another one, and its values."""
        return self, values

    def arguments(self, values: Mapping[str, Any], **more: Any) -> list[Any]:
        """Return named values in the order of the SQL's parameters; `more` adds to them."""
        compiled = self._compiled
        values = {**compiled.constants, **values, **more}
        for name, convert in compiled.converted_arguments:
            values[name] = convert(values[name])
        return [values[name] for name in compiled.names]

    def read(self, rows: list[Any]) -> list[Any]:
        """Return a driver's rows with Python values; they are converted column by column, without a step for each."""
        converted = self._compiled.converted_columns
        if not rows or not converted:
            return rows
        columns: list[Any] = list(zip(*rows, strict=True))
        for place, convert in converted:
            columns[place] = map(convert, columns[place])
        return list(zip(*columns, strict=True))
