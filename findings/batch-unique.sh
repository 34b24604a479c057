#!/usr/bin/env bash
# SQLAlchemy 2.1.9, alembic 1.20.1, Python's SQLite: UNIQUE written on a column is reflected only if nothing but words
# stands between the column's name and it, all on one line. VARCHAR(20) UNIQUE and TEXT DEFAULT 'x' UNIQUE have neither
# a unique constraint nor an index, for the inspector. Batch mode makes the table anew without it, with no warning (for
# an unnamed CHECK there is one), and the database takes from then on what it had refused. Tables made by create_all are
# safe: it writes UNIQUE (name) after the columns.
#
# Guessed before: a constraint is kept, or a warning says that it is not; SQLite lists its unique indexes by PRAGMA.
#
# Seen: reflected, and the second of two equal rows before and after a batch that renames another column:
#       TEXT UNIQUE; TEXT NOT NULL UNIQUE; VARCHAR(20), UNIQUE (name): yes, refused, refused
#       VARCHAR(20) UNIQUE; TEXT DEFAULT 'x' UNIQUE; TEXT on one line and UNIQUE on the next: no, refused, taken
#
# Source: sqlalchemy/dialects/sqlite/base.py, get_unique_constraints (INLINE_UNIQUE_PATTERN; what PRAGMA lists as a
# sqlite_autoindex counts only where the text was matched); alembic/operations/batch.py, BatchOperationsImpl.flush (the
# table is reflected) and ApplyBatchImpl._grab_table_elements (the warning for CHECK); alembic, "Including unnamed
# UNIQUE constraints" (not reflected only "prior to version 1.0" of SQLAlchemy); sqlalchemy/sqlalchemy issue 11746
# "SQLite reflection misses UNIQUE constraint when there are tabs in the table DDL" (open), another case of the same.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    alembic==1.20.1 sqlalchemy==2.1.9 mako==1.4.3 markupsafe==3.0.4 typing-extensions==4.16.0

"$work/venv/bin/python" - <<'EOF'
import sys
import warnings

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import IntegrityError

KEPT = ["TEXT UNIQUE", "TEXT NOT NULL UNIQUE", "VARCHAR(20), UNIQUE (name)"]
LOST = ["VARCHAR(20) UNIQUE", "TEXT DEFAULT 'x' UNIQUE", "TEXT\nUNIQUE"]


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def insert(connection):
    try:
        with connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO items (name) VALUES ('a')")
    except IntegrityError:
        return "refused"
    return "taken"


def migrate(column):
    engine = create_engine("sqlite://")
    with engine.begin() as connection, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        connection.exec_driver_sql(f"CREATE TABLE items (id INTEGER PRIMARY KEY, note TEXT, name {column})")
        reflected = [found["column_names"] for found in inspect(connection).get_unique_constraints("items")]
        indexes = inspect(connection).get_indexes("items")
        insert(connection)
        before = insert(connection)
        with Operations(MigrationContext.configure(connection)).batch_alter_table("items") as batch:
            batch.alter_column("note", new_column_name="remark")
        after = insert(connection)
    engine.dispose()
    return reflected, indexes, before, after, len(warned)


for column in KEPT + LOST:
    expected = ([["name"]], [], "refused", "refused", 0) if column in KEPT else ([], [], "refused", "taken", 0)
    see(f"{column!r}: unique constraints, indexes, before, after, warnings", migrate(column), expected)
EOF
