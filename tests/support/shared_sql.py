"""The SQL of tables, made once for all services of this process: a start takes 16 ms of CPU with it, and 80 without."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from db.engines.database import Database
from db.tables import statements
from db.tables.sql import TableSQL
from db.tables.table import Table


@contextmanager
def shared_sql() -> Iterator[None]:
    """Share the SQL of a table between its stores: it has no state but its compiled text, by the kind of database."""
    # The table is kept, so that no other one can have its id.
    made: dict[tuple[type[Database], int], tuple[Table, TableSQL]] = {}

    def shared(database: Database, table: Table) -> TableSQL:
        key = (type(database), id(table))
        if key not in made:
            made[key] = (table, TableSQL(database, table))
        return made[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "TableSQL", shared)
        yield
