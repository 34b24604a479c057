"""A database that holds the table of the migrations, filled with the same rows before each contestant."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bench.processes import Command, finish

# One statement for both databases; ids come from the identity and start at 1, and no two rows share a timestamp.
SEED = """
INSERT INTO items (name, price, in_stock, created_at, updated_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}),
rows(n, created_at) AS (SELECT n, {timestamp} FROM numbers)
SELECT 'item-' || n, n / 4.0, n % 3 <> 0, created_at, created_at FROM rows ORDER BY n
"""


@dataclass(frozen=True)
class Database:
    """Where contestants connect, how to make it new again, and the processes that do its work."""

    url: str
    version: str
    reset: Callable[[int], None]
    """Fills the table anew with so many rows."""
    processes: tuple[psutil.Process, ...] = ()
    binaries: Path | None = None
    """Where the database's own programs lie, if it has any."""

    @property
    def port(self) -> int:
        """The TCP port, or 0."""
        return make_url(self.url).port or 0

    def count(self) -> int:
        """Count the items."""
        return int(query(self.url, "SELECT count(*) FROM items"))


def migrate(url: str) -> None:
    """Bring the schema to its newest revision, with the service's own command."""
    finish(Command([sys.executable, "-m", "service", "migrate", "upgrade"], {"DATABASE_URL": url}))


def issue_token(url: str) -> str:
    """Issue a token of an admin, with the service's own command."""
    line = [sys.executable, "-m", "service", "token", "issue", "--admin"]
    return finish(Command(line, {"DATABASE_URL": url})).split()[-1]


def seed(rows: int, timestamp: str) -> str:
    """Build the statement that fills an empty table; `timestamp` is the database's expression for the nth second."""
    return SEED.format(rows=rows, timestamp=timestamp)


def execute(url: str, *statements: str) -> None:
    """Run each statement in a transaction of its own."""
    asyncio.run(_run(url, statements))


def execute_together(url: str, *statements: str) -> None:
    """Run all statements in one transaction: a straggler's row between them would shift every id."""
    asyncio.run(_run(url, statements, together=True))


def query(url: str, statement: str) -> str:
    """Run a statement and return its one value as text."""
    return str(asyncio.run(_run(url, [statement])))


async def _run(url: str, statements: Sequence[str], *, together: bool = False) -> object:
    options = {} if together else {"isolation_level": "AUTOCOMMIT"}
    engine = create_async_engine(url, poolclass=NullPool, **options)
    value: object = None
    try:
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
                value = result.scalar() if result.returns_rows else None
    finally:
        await engine.dispose()
    return value
