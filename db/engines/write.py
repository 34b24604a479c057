"""The writes of PostgreSQL's batchers: one statement for any number of rows, and another one for a single row."""

from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, cast
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg
from sqlalchemy.sql.functions import Function

from db.engines.statement import Statement


class OneRowCompiler(PGCompiler_asyncpg):
    """Compiles the `unnest` of a row parameter as a row of scalar arguments, and its ordinality.

    Arrays of one cost asyncpg a tenth of the time of a write, for checks of what may be in them, and PostgreSQL as much
    for a scan and a sort.
    """

    def visit_function(self, func: Function[Any], *arguments: Any, **options: Any) -> str:
        """Return the SQL of a function."""
        if func.name != "unnest":
            return super().visit_function(func, *arguments, **options)
        arrays: Iterable[Any] = func.clauses
        # With casts of their own, as timestamps would have none (findings/variant-without-cast.sh).
        kinds = [(array.key, array.type.item_type) for array in arrays]
        scalars = [cast(bindparam(key, type_=kind), kind) for key, kind in kinds]
        return f"(SELECT {', '.join(self.process(scalar, **options) for scalar in scalars)}, 1)"


class Write(Statement):
    """A write, whose arguments are the arrays of one row parameter."""

    def for_rows(self, values: Mapping[str, Any]) -> tuple[Statement, Mapping[str, Any]]:
        """Return the statement that runs for the rows of these values, and its values: scalars, for one row."""
        if len(next(iter(values.values()))) != 1:
            return self, values
        return self._for_one_row, {name: value for name, (value,) in values.items()}

    @cached_property
    def _for_one_row(self) -> Statement:
        dialect = copy(self._dialect)
        dialect.statement_compiler = OneRowCompiler
        statement = Statement(self.source, dialect, self._converters, for_batchers=self._for_batchers)
        statement.is_secret = self.is_secret
        return statement
