#!/usr/bin/env bash
# SQLAlchemy 2.1.9, QueuePool with pool_use_lifo=True (recommended so that a server can close what is idle): a connection
# was lost, and the server allows no other in its place, as after a lower limit of the role. Its place in the pool is the
# last one that was returned, so it is tried first; the attempt fails, the place is returned, and is the last one again:
# every checkout fails for good, while connections that are open lie idle in the same pool. With the default, first in
# and first out, one checkout in three fails. pool_pre_ping does not help.
#
# Guessed before: a pool hands out a connection that it has before it opens another one.
#
# Seen: LIFO: 0 of 9 checkouts succeed, two connections are open and idle
#       LIFO, pool_pre_ping: 0 of 9
#       FIFO: 6 of 9
#
# Source: sqlalchemy/pool/base.py, _ConnectionRecord.checkout, which returns a record whose connection cannot be opened
# to the pool (_checkin_failed), and sqlalchemy/util/queue.py, Queue._get (use_lifo); docs.sqlalchemy.org, "Connection
# Pooling", "Using FIFO vs. LIFO".

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    sqlalchemy==2.1.9 greenlet==3.5.6 typing-extensions==4.16.0

cd "$work"
"$work/venv/bin/python" - <<'EOF'
import sqlite3
import sys

from sqlalchemy import QueuePool, create_engine
from sqlalchemy.exc import OperationalError

TRIES = 9


def succeeding(**options):
    """Lose one of three connections, allow two, and return how many checkouts succeed, one after the other."""
    limit, opened = 3, []

    def connect():
        if len(opened) == limit:
            raise sqlite3.OperationalError("too many connections")
        opened.append(sqlite3.connect(":memory:"))
        return opened[-1]

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=3, max_overflow=0, pool_timeout=1, **options
    )
    first, second, lost = (engine.connect() for _ in range(3))
    first.close()
    second.close()
    limit = 2
    opened.remove(lost.connection.driver_connection)
    lost.invalidate()
    lost.close()
    succeeded = 0
    for _ in range(TRIES):
        try:
            engine.connect().close()
        except OperationalError:
            continue
        succeeded += 1
    for connection in opened:
        connection.execute("SELECT 1")  # they are open
    return succeeded


seen = {
    "LIFO": succeeding(pool_use_lifo=True),
    "LIFO, pool_pre_ping": succeeding(pool_use_lifo=True, pool_pre_ping=True),
    "FIFO": succeeding(),
}
for name, succeeded in seen.items():
    print(f"{name}: {succeeded} of {TRIES} checkouts succeed, while two connections are open and idle")
if list(seen.values()) != [0, 0, 6]:
    sys.exit("CHANGED: expected 0, 0 and 6")
EOF
