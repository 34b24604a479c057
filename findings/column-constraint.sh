#!/usr/bin/env bash
# SQLAlchemy 2.1.9, alembic 1.20.1, Python's SQLite: a foreign key with a name, written on its column, as in ALTER TABLE
# ADD COLUMN, is reflected without the name. The same key among the table's constraints has it, and so have PRIMARY KEY
# and CHECK on a column, though not UNIQUE. Batch mode, which makes a table anew from what is reflected, so loses the
# name in a migration of another column, and cannot drop the constraint by its name, either, unless a naming_convention
# happens to give that name.
#
# Guessed before: SQLite's constraint names are read from the text of the table; so they are, wherever they stand in it.
#
# Seen: on the table: pk_items, ck_items, uq_items, fk_items; on the columns: pk_items, ck_items, None, None
#       drop_constraint("fk_items"): on the table done; on the column ValueError (No such constraint)
#       after a batch that renames another column: on the table all four names in the text; on the columns two
#
# Source: sqlalchemy/dialects/sqlite/base.py, FK_PATTERN (only FOREIGN KEY ... REFERENCES) and, in
# get_unique_constraints, INLINE_UNIQUE_PATTERN, which has no name; alembic, "Dropping Unnamed or Named Foreign Key
# Constraints" (names are omitted only "prior to version 1.0" of SQLAlchemy); sqlalchemy/sqlalchemy issue 13528 "SQLite
# reflection loses constraint names when CONSTRAINT <name> is on its own line" (closed), on constraints of a table;
# sqlite.org/lang_altertable.html, ALTER TABLE ADD COLUMN.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    alembic==1.20.1 sqlalchemy==2.1.9 mako==1.4.3 markupsafe==3.0.4 typing-extensions==4.16.0

"$work/venv/bin/python" - <<'EOF'
import sys

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, inspect

NAMES = ["pk_items", "ck_items", "uq_items", "fk_items"]
TABLES = {
    "on the table": [
        "CREATE TABLE items (id INTEGER, name TEXT, code TEXT, note TEXT, owner_id INTEGER, "
        "CONSTRAINT pk_items PRIMARY KEY (id), CONSTRAINT ck_items CHECK (name <> ''), "
        "CONSTRAINT uq_items UNIQUE (code), CONSTRAINT fk_items FOREIGN KEY (owner_id) REFERENCES users (id))",
    ],
    "on the columns": [
        "CREATE TABLE items (id INTEGER CONSTRAINT pk_items PRIMARY KEY, "
        "name TEXT CONSTRAINT ck_items CHECK (name <> ''), code TEXT CONSTRAINT uq_items UNIQUE, note TEXT)",
        "ALTER TABLE items ADD COLUMN owner_id INTEGER CONSTRAINT fk_items REFERENCES users (id)",
    ],
}


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def run(statements, work):
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        for statement in "CREATE TABLE users (id INTEGER PRIMARY KEY)", *statements:
            connection.exec_driver_sql(statement)
        result = work(connection)
    engine.dispose()
    return result


def reflect(connection):
    inspector = inspect(connection)
    (check,) = inspector.get_check_constraints("items")
    (unique,) = inspector.get_unique_constraints("items")
    (key,) = inspector.get_foreign_keys("items")
    return [found["name"] for found in (inspector.get_pk_constraint("items"), check, unique, key)]


def drop(connection):
    try:
        with Operations(MigrationContext.configure(connection)).batch_alter_table("items") as batch:
            batch.drop_constraint("fk_items", type_="foreignkey")
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def rename(connection):
    with Operations(MigrationContext.configure(connection)).batch_alter_table("items") as batch:
        batch.alter_column("note", new_column_name="remark")
    sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'items'").scalar_one()
    return [name for name in NAMES if name in sql]


for where, statements in TABLES.items():
    named = where == "on the table"
    see(f"{where}, reflected", run(statements, reflect), NAMES if named else [*NAMES[:2], None, None])
    dropped = "done" if named else "ValueError: No such constraint: 'fk_items'"
    see(f"{where}, drop by name", run(statements, drop), dropped)
    see(f"{where}, after a batch", run(statements, rename), NAMES if named else NAMES[:2])
EOF
