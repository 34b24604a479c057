"""A resource kept in a table: what clients may write, read, filter by and order by. It is a value, and knows no SQL."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import BigInteger, Boolean, Double, Text, UniqueConstraint
from sqlalchemy.types import TypeEngine

from db.errors import InvalidValue
from db.models import Base
from db.models import table as core_table
from db.tables.filters import Filter
from db.types import Float64, Name, Timestamp, fold, timestamp

# Of row parameters, by the Python type of a column. Not the column's own type: a cast to VARCHAR(255) truncates.
PARAMETER_TYPES: dict[type, TypeEngine[Any]] = {bool: Boolean(), int: BigInteger(), float: Double(), str: Text()}
PARAMETER_TYPES[datetime] = Timestamp
# Of columns: of these Python types, others would be read differently by the two databases.
REQUIRED_TYPES = {float: ("Float64", Float64), datetime: ("Timestamp", Timestamp)}
FOLDED = "_folded"


def _in_utc(value: datetime) -> datetime:
    """Return a timestamp in UTC. Raise InvalidValue for one that is there in another year than 1 to 9999."""
    try:
        return timestamp(value.astimezone(UTC))
    except OverflowError:
        raise InvalidValue("a timestamp is not in the years 1 to 9999 of UTC") from None


# SQLite knows no -0.0, and a timestamp is read in UTC: what was written is what will be read.
NORMALIZE: dict[type, Callable[[Any], Any]] = {
    float: lambda value: value + 0.0,
    datetime: _in_utc,
}

Row = tuple[Any, ...]  # the values of a table's `fields`, then of its `write_only`; as it is stored, of all `written`


class Patch(NamedTuple):
    """The new values of some fields of a row. A version must be the row's current one, an owner its owner, if any."""

    id: int
    version: int | None
    values: Mapping[str, Any]
    owner: int | None = None


class Deletion(NamedTuple):
    """The id of a row to delete. A version must be the row's current one, an owner its owner, if it has one."""

    id: int
    version: int | None = None
    owner: int | None = None


class Reference(NamedTuple):
    """A foreign key, `column`, between a table and another one, either of which has the column."""

    column: str
    other: sqlalchemy.Table


@dataclass(frozen=True)
class Table:
    """A resource kept in a table that has the columns id, version, created_at and updated_at beside its fields.

    Clients read and write `fields`, and write `write_only`; no other column is selected. A field with a column
    NAME_folded beside it is compared and ordered by db.types.fold, and is unique by it. `orders` are those of a list,
    each with an index on (column, id), `filters` its filters by query parameter. `owner` is the field with the id of
    the user that a row belongs to, NULL if to nobody. Where `audited` is not None, every change of a row is recorded in
    the audit log: the names of the fields that it changes, and the values of those in `audited`. Raise TypeError for a
    table whose lists, unique values or owners could not be served as they should be.
    """

    model: type[Base]
    noun: str
    fields: tuple[str, ...]
    write_only: tuple[str, ...] = ()
    orders: tuple[str, ...] = ("id",)
    filters: Mapping[str, Filter] = field(default_factory=dict)
    owner: str | None = None
    audited: Collection[str] | None = None

    def __post_init__(self) -> None:
        for name in (*self.row_fields, *self.orders, *(one.column for one in self.filters.values())):
            if name not in self.core.c:
                raise TypeError(f"{self.name} has no column {name}")
        for name in self.row_fields:
            column = self.core.c[name]
            wanted = REQUIRED_TYPES.get(column.type.python_type)
            if wanted and column.type is not wanted[1]:
                raise TypeError(f"{column} needs the type db.types.{wanted[0]}, to be the same on both databases")
        if self.owner is not None and self.owner not in self.fields:
            raise TypeError(f"{self.name} has no field {self.owner}: an owner is read with its row")
        if secret := set(self.audited or ()) - set(self.fields):
            raise TypeError(f"{self.name} has no fields {secret} that may be read, so the audit log must not have them")
        self._check_lists()
        for names in self._unique_columns:
            if len(names) > 1 and "id" not in names:
                raise TypeError(f"{self.name} has a unique constraint of several columns: no guard foresees {names}")

    def _check_lists(self) -> None:
        for name in self.orders:
            column = self.core.c[self.compared(name)]
            if column.nullable:
                raise TypeError(f"{column} is nullable, and nothing compares with NULL: it cannot be an order")
        ranges = (bound.order for one in self.filters.values() for bound in one.bounds)
        for name in (*self.orders, *ranges):
            column = self.core.c[self.compared(name)]
            if column.type.python_type is str and column.type is not Name:
                raise TypeError(f"{column} needs the type db.types.Name, to be ordered alike by both databases")
        for name in (*self.orders, *(one.column for one in self.filters.values())):
            if (self.compared(name),) not in self._indexed and (self.compared(name), "id") not in self._indexed:
                raise TypeError(f"{self.core.c[name]} is an order or a filter: it needs an index on ({name}, id)")

    @cached_property
    def core(self) -> sqlalchemy.Table:
        """Return the Core table."""
        return core_table(self.model)

    @property
    def name(self) -> str:
        """Return the name of the table."""
        return str(self.core.name)  # not a quoted_name, which no encoder knows

    @cached_property
    def columns(self) -> list[sqlalchemy.Column[Any]]:
        """Return the columns of a row as it is read, in their order."""
        return [self.core.c[name] for name in ("id", *self.fields, "version", "created_at", "updated_at")]

    @cached_property
    def row_fields(self) -> tuple[str, ...]:
        """Return the fields of a Row."""
        return (*self.fields, *self.write_only)

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Return the columns that are written: a Row's, then those that are folded."""
        return (*self.row_fields, *(name + FOLDED for name in self.row_fields if name + FOLDED in self.core.c))

    @cached_property
    def parameters(self) -> dict[str, TypeEngine[Any]]:
        """Return the types of row parameters, by the name of the column that is written."""
        return {name: PARAMETER_TYPES[self.core.c[name].type.python_type] for name in self.written}

    @cached_property
    def unique(self) -> tuple[str, ...]:
        """Return the fields whose values are unique, each by itself."""
        names = {one[0].removesuffix(FOLDED) for one in self._unique_columns if len(one) == 1}
        return tuple(name for name in self.row_fields if name in names)

    @cached_property
    def _unique_columns(self) -> list[tuple[str, ...]]:
        constraints = [one.columns for one in self.core.constraints if isinstance(one, UniqueConstraint)]
        indexes = [one.columns for one in self.core.indexes if one.unique]
        return [tuple(column.name for column in columns) for columns in constraints + indexes]

    @cached_property
    def _indexed(self) -> set[tuple[str, ...]]:
        indexes = [tuple(column.name for column in one.columns) for one in self.core.indexes]
        return {("id",), *indexes, *self._unique_columns}

    @cached_property
    def references(self) -> list[Reference]:
        """Return the foreign keys among the fields, each with the table that it refers to."""
        return [Reference(name, key.column.table) for name in self.fields for key in self.core.c[name].foreign_keys]

    @cached_property
    def referenced_by(self) -> list[Reference]:
        """Return the foreign keys of other tables that keep a row of this one from being deleted."""
        return self._referring(None)

    @cached_property
    def cascades_to(self) -> list[Reference]:
        """Return the foreign keys of other tables whose rows are deleted with the row that they refer to."""
        return self._referring("CASCADE")

    def _referring(self, ondelete: str | None) -> list[Reference]:
        return [
            Reference(column.name, table)
            for table in self.core.metadata.sorted_tables
            for column in table.c
            for key in column.foreign_keys
            if key.column.table is self.core and (key.ondelete or None) == ondelete
        ]

    def compared(self, name: str) -> str:
        """Return the column by which a field is compared and ordered."""
        return self._folded.get(name, name)

    def comparable(self, name: str, value: Any) -> Any:
        """Return a field's value in the form in which it is compared."""
        return fold(value) if value is not None and self.compared(name) != name else value

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {name.removesuffix(FOLDED): name for name in self.written if name.endswith(FOLDED)}

    @cached_property
    def _normalized(self) -> list[tuple[int, Callable[[Any], Any]]]:
        types = [self.core.c[name].type.python_type for name in self.row_fields]
        return [(place, NORMALIZE[kind]) for place, kind in enumerate(types) if kind in NORMALIZE]

    @cached_property
    def _folded_places(self) -> list[int]:
        return [self.row_fields.index(name) for name in self._folded]

    @cached_property
    def _unique_places(self) -> list[tuple[str, int]]:
        return [(name, self.written.index(self.compared(name))) for name in self.unique]

    def stored_row(self, row: Row) -> Row:
        """Return a Row as it is stored: normalized, with the values of the columns that are folded."""
        if self._normalized:
            values = list(row)
            for place, normalize in self._normalized:
                if values[place] is not None:
                    values[place] = normalize(values[place])
            row = tuple(values)
        if self._folded_places:
            row = (*row, *[row[place] and fold(row[place]) for place in self._folded_places])
        return row

    def unique_in_row(self, stored: Row) -> list[tuple[str, Any]]:
        """Return the unique fields of a row as it is stored, each with the value that is compared, if any."""
        return [(name, stored[place]) for name, place in self._unique_places if stored[place] is not None]

    def unique_values(self, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Return the unique fields among some fields' values, each with its value as it is compared."""
        return [(name, self.comparable(name, values[name])) for name in self.unique if values.get(name) is not None]


def repeated(members: Iterable[Iterable[tuple[str, Any]]]) -> set[tuple[int, str]]:
    """Return, by position, the fields whose value an earlier member of a batch has, of the unique ones of each."""
    seen: set[tuple[str, Any]] = set()
    found: set[tuple[int, str]] = set()
    for position, fields in enumerate(members):
        for one in fields:
            if one in seen:
                found.add((position, one[0]))
            seen.add(one)
    return found
