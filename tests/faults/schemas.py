"""A schema that changes under load: no client that reads or writes meanwhile notices."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
from sqlalchemy import URL, make_url

from tests.faults.checker import check, integrity_faults, read_rows
from tests.faults.journal import Journal
from tests.faults.resources import RESOURCES
from tests.faults.writers import Writers
from tests.support.serving import ServiceProcess
from tests.support.waiting import wait_until

# What a migration does that is made for a service which is up, on the table of every resource. The last two give a
# statement's result another type, for which PostgreSQL refuses the plans that connections have cached (0A000).
CHANGES = {
    "postgresql": [
        "ALTER TABLE {table} ADD COLUMN colour text",
        "ALTER TABLE {table} ADD COLUMN size bigint NOT NULL DEFAULT 7",
        "CREATE INDEX CONCURRENTLY ix_{table}_colour ON {table} (colour, id)",
        "REINDEX INDEX CONCURRENTLY pk_{table}",
        "REINDEX TABLE CONCURRENTLY {table}",
        "REINDEX TABLE CONCURRENTLY commit_records",
        "REINDEX TABLE CONCURRENTLY idempotency_keys",
        "ANALYZE",
        "VACUUM",
        "DROP INDEX CONCURRENTLY ix_{table}_colour",
        "ALTER TABLE {table} DROP COLUMN colour, DROP COLUMN size",
        'ALTER TABLE {table} ALTER COLUMN name TYPE varchar(256) COLLATE "C"',
        'ALTER TABLE {table} ALTER COLUMN name TYPE varchar(255) COLLATE "C"',
    ],
    "sqlite": [
        "ALTER TABLE {table} ADD COLUMN colour text",
        "ALTER TABLE {table} ADD COLUMN size integer NOT NULL DEFAULT 7",
        "CREATE INDEX ix_{table}_colour ON {table} (colour, id)",
        "REINDEX",
        "ANALYZE",
        "DROP INDEX ix_{table}_colour",
        "ALTER TABLE {table} DROP COLUMN colour",
        "ALTER TABLE {table} DROP COLUMN size",
    ],
}
TABLES = [resource.collection.table.name for resource in RESOURCES]
SERVED = {"200", "201", "204"}
WAIT_S = 30.0
BETWEEN = 30  # acknowledged writes after each change: one without a pause keeps SQLite's writers out

Execute = Callable[[str], object]


def change_schemas(database_url: str, duration_s: float, workers: int = 2) -> dict[str, Any]:
    """Change the schema again and again while writers work: every request is served, and the journal is right."""
    url = make_url(database_url)
    with TemporaryDirectory() as folder, ServiceProcess(database_url, workers=workers) as service:
        path = Path(folder) / "journal"
        with Journal(path) as journal, Writers(service.url, journal) as writers, connected(url) as execute:

            def change(sql: str) -> None:
                for statement in dict.fromkeys(sql.format(table=table) for table in TABLES):
                    execute(statement)
                more = writers.report().acknowledged + BETWEEN
                wait_until(lambda: writers.report().acknowledged >= more)

            rounds = repeat(CHANGES[url.get_backend_name()], change, duration_s)
            report = writers.stop()
        faults = [f"{count} responses were {name}" for name, count in report.responses.items() if name not in SERVED]
        faults += check(path, read_rows(database_url)) + integrity_faults(database_url)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults[:20]])
    return {
        "changes": rounds * len(CHANGES[url.get_backend_name()]),
        "responses": report.responses,
        "failures": 0,
        "latency_p99_ms": round(1000 * report.latency_p99_s),
        "latency_max_ms": round(1000 * report.latency_max_s),
    }


def repeat(changes: list[str], execute: Execute, duration_s: float) -> int:
    """Make all changes, again and again for as long as there is time, but once at least; and return how often."""
    deadline = time.monotonic() + duration_s
    for rounds in count(1):
        for sql in changes:
            execute(sql)
        if time.monotonic() > deadline:
            return rounds
    raise AssertionError("there is no end")


@contextmanager
def connected(url: URL) -> Iterator[Execute]:
    """Return a way to change a database, past the service."""
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database), timeout=WAIT_S, isolation_level=None)) as connection:
            yield connection.execute
        return
    with asyncio.Runner() as runner:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        driver: Any = runner.run(asyncpg.connect(address, command_timeout=WAIT_S))
        yield lambda sql: runner.run(driver.execute(sql))
        runner.run(driver.close())
