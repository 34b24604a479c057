"""An SQLite file, filled anew while contestants have it open."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.database import Database, execute, execute_together, migrate, query
from bench.rows import seed

TIMESTAMP = "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', (n * 1.001) || ' seconds')"


@contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """Keep a file with a migrated table; its work is done inside the contestants."""
    url = f"sqlite+aiosqlite:///{folder / 'items.db'}"
    migrate(url)
    yield Database(
        url=url,
        version="SQLite " + query("sqlite+aiosqlite://", "SELECT sqlite_version()"),
        reset=partial(_reset, url),
    )


def _reset(url: str, rows: int) -> None:
    execute_together(
        url, "DELETE FROM items", "DELETE FROM sqlite_sequence WHERE name = 'items'", seed(rows, TIMESTAMP)
    )
    execute(url, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")
