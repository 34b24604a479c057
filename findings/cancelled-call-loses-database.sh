#!/usr/bin/env bash
# SQLAlchemy 2.1.9 (asyncio), aiosqlite 0.22.1, SQLite: where a call of a transaction is cancelled, by a timeout say, no
# rollback follows: SQLAlchemy takes the connection for lost and closes it. Of a database in memory, whose StaticPool
# has that one connection, every table and row is gone, without an error. Of a file, the closed connection keeps its
# lock until the garbage collector finds its cursor, in a cycle: until then no other connection can write.
#
# Guessed before: as after any other exception, the transaction is rolled back, and the connection lives on.
#
# Seen: in memory: TimeoutError, then tables [] (they were ['t'])
#       file, 3 s later: another connection: database is locked
#       file, garbage collected: another connection: can write
#
# Source: sqlalchemy/engine/base.py, Connection._handle_dbapi_exception (is_exit_exception: invalidate), sqlalchemy/
# pool/impl.py, StaticPool, which connects anew; sqlite.org/c3ref/close.html: a connection that is closed by
# sqlite3_close_v2() with unfinalized statements becomes a zombie, and ends with the last of them.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    aiosqlite==0.22.1 sqlalchemy==2.1.9 greenlet==3.5.6 typing-extensions==4.16.0

cd "$work"
"$work/venv/bin/python" - <<'EOF'
import asyncio
import gc
import sqlite3
import sys

from sqlalchemy import StaticPool, text
from sqlalchemy.ext.asyncio import create_async_engine

# A query that takes about a second, and gives a first row at once.
SLOW = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000000) SELECT count(*) FROM n"
)


def see(what, seen, expected):
    print(f"{what}: {seen}")
    if seen != expected:
        sys.exit(f"CHANGED: expected {expected}")


async def cut_off(engine):
    """Run a transaction that is cancelled in its second statement."""

    async def work():
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO t VALUES (1)"))
            await connection.execute(SLOW)

    try:
        await asyncio.wait_for(work(), 0.1)
    except TimeoutError:
        return
    sys.exit("CHANGED: it was not cancelled")


def write():
    try:
        with sqlite3.connect("file.db", timeout=3) as other:
            other.execute("INSERT INTO t VALUES (2)")
    except sqlite3.OperationalError as error:
        return str(error)
    return "can write"


async def tables(engine):
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT name FROM sqlite_master")))


async def main():
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (i)"))
    see("in memory, before", await tables(engine), ["t"])
    await cut_off(engine)
    see("in memory, after", await tables(engine), [])
    await engine.dispose()

    engine = create_async_engine("sqlite+aiosqlite:///file.db")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (i)"))
    gc.collect()
    gc.disable()  # as if few objects were made meanwhile
    await cut_off(engine)
    await asyncio.sleep(3)
    see("file, 3 s later: another connection", await asyncio.to_thread(write), "database is locked")
    gc.collect()
    see("file, garbage collected: another connection", await asyncio.to_thread(write), "can write")
    await engine.dispose()


asyncio.run(main())
EOF
