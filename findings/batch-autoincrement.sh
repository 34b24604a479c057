#!/usr/bin/env bash
# alembic 1.20.1, SQLAlchemy 2.1.9, Python's SQLite: where batch_alter_table makes a table anew, as SQLite needs for any
# change but an added column, AUTOINCREMENT is silently lost, and ids of deleted rows are used again. Autogenerate then
# finds no difference to a model that has sqlite_autoincrement. STRICT and WITHOUT ROWID are reflected and kept, since
# SQLAlchemy 2.0.53; this option is not. With table_kwargs or copy_from the keyword is kept, and yet the next id is one
# that was used: the entry in sqlite_sequence is deleted with the old table, and the new one is made from what rows are
# left.
#
# Guessed before: a migration of another column leaves the key as it is; at worst, table_kwargs is needed for it.
#
# Seen: without a migration: AUTOINCREMENT, the id after 1 and a deleted 2 is 3
#       batch: no AUTOINCREMENT, the id is 2, and autogenerate sees no change; beside it WITHOUT ROWID is kept
#       batch with table_kwargs, and with copy_from: AUTOINCREMENT, sqlite_sequence has 1, the id is 2
#
# Source: alembic/operations/batch.py, ApplyBatchImpl._create (a table of another name, INSERT from SELECT, DROP TABLE,
# rename); alembic, batch_alter_table, table_kwargs ("table options that may not be reflected"), and issue 1758 "SQLite
# STRICT is not propagated in batch mode" (closed); sqlalchemy/dialects/sqlite/base.py, get_table_options;
# sqlite.org/autoinc.html (no reuse "over the lifetime of the database"; sqlite_sequence takes an ordinary UPDATE).

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    alembic==1.20.1 sqlalchemy==2.1.9 mako==1.4.3 markupsafe==3.0.4 typing-extensions==4.16.0

"$work/venv/bin/python" - <<'EOF'
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def model(*, nullable):
    metadata = MetaData()
    for name, options in ("items", {"sqlite_autoincrement": True}), ("tags", {"sqlite_with_rowid": False}):
        columns = Column("id", Integer, primary_key=True), Column("name", String, nullable=nullable)
        Table(name, metadata, *columns, **options)
    return metadata


def migrate(migrated=True, **options):
    before, after = model(nullable=True), model(nullable=False)
    items = before.tables["items"]
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        before.create_all(connection)
        connection.execute(items.insert(), [{"name": "a"}, {"name": "b"}])
        connection.execute(items.delete().where(items.c.id == 2))
        context = MigrationContext.configure(connection)
        if migrated:
            for name in "items", "tags":
                kwargs = options if name == "items" else {}
                with Operations(context).batch_alter_table(name, **kwargs) as batch:
                    batch.alter_column("name", existing_type=String(), nullable=False)
        changes = compare_metadata(context, after if migrated else before)
        statement = "SELECT sql FROM sqlite_master WHERE name = '{}'"
        sql = {name: connection.exec_driver_sql(statement.format(name)).scalar_one() for name in before.tables}
        sequence = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'items'").scalar()
        connection.execute(items.insert(), {"name": "c"})
        id_ = connection.exec_driver_sql("SELECT id FROM items WHERE name = 'c'").scalar_one()
    engine.dispose()
    return "AUTOINCREMENT" in sql["items"], "WITHOUT ROWID" in sql["tags"], sequence, id_, changes


WHAT = "AUTOINCREMENT, WITHOUT ROWID, sqlite_sequence, new id, changes"
see(f"without a migration: {WHAT}", migrate(migrated=False), (True, True, 2, 3, []))
see(f"batch: {WHAT}", migrate(), (False, True, None, 2, []))
see(f"table_kwargs: {WHAT}", migrate(table_kwargs={"sqlite_autoincrement": True}), (True, True, 1, 2, []))
see(f"copy_from: {WHAT}", migrate(copy_from=model(nullable=True).tables["items"]), (True, True, 1, 2, []))
EOF
