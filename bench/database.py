"""A database that holds the table of the migrations, filled with the same rows before each contestant."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bench.processes import Command, ProcessError, finish

FILLS_MAX = 10
STRAGGLE_SECONDS = 0.05


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

    def fill(self, rows: int) -> None:
        """Fill the table anew with so many rows, unless it has been, and nobody has changed it since.

        Writes whose clients have gone may still come; a table that has them is filled once more. Raises ProcessError.
        """
        for _ in range(FILLS_MAX):
            found = query(self.url, "SELECT count(*) || ' ' || max(id) || ' ' || max(version) FROM items")
            if found == f"{rows} {rows} 1":
                return
            self.reset(rows)
            time.sleep(STRAGGLE_SECONDS)
        raise ProcessError(f"the table was changed while it was filled, {FILLS_MAX} times")


def migrate(url: str) -> None:
    """Bring the schema to its newest revision, with the service's own command."""
    finish(Command([sys.executable, "-m", "service", "migrate", "upgrade"], {"DATABASE_URL": url}))


def issue_token(url: str) -> str:
    """Issue a token of an admin, with the service's own command."""
    line = [sys.executable, "-m", "service", "token", "issue", "--admin"]
    return finish(Command(line, {"DATABASE_URL": url})).split()[-1]


def execute(url: str, *statements: str) -> None:
    """Run each statement in a transaction of its own."""
    asyncio.run(_run(url, statements))


def execute_together(url: str, *statements: str) -> None:
    """Run all statements in one transaction: a straggler's row between them would shift every id."""
    asyncio.run(_run(url, statements, together=True))


def query(url: str, statement: str) -> str:
    """Run a statement and return its one value as text."""
    ((value,),) = columns(url, statement)
    return str(value)


def columns(url: str, *statements: str) -> list[list[Any]]:
    """Run each statement and return the first column of its rows, as a list for each."""
    return asyncio.run(_run(url, statements))


async def _run(url: str, statements: Sequence[str], *, together: bool = False) -> list[list[Any]]:
    options = {} if together else {"isolation_level": "AUTOCOMMIT"}
    engine = create_async_engine(url, poolclass=NullPool, **options)
    found: list[list[Any]] = []
    try:
        async with engine.begin() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
                found.append([*result.scalars()] if result.returns_rows else [])
    finally:
        await engine.dispose()
    return found
