"""An SQLite file: made once for each number of rows, copied anew for each contestant."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.database import Database, execute, migrate, query, seed

MOMENT = "strftime('%Y-%m-%d %H:%M:%f000', '2026-01-01', n || ' seconds')"


@contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """Keep a file with a migrated table; its work is done inside the contestants."""
    file = folder / "items.db"
    url = f"sqlite+aiosqlite:///{file}"
    yield Database(
        url=url,
        version="SQLite " + query("sqlite+aiosqlite://", "SELECT sqlite_version()"),
        reset=lambda rows: _reset(folder / f"template-{rows}.db", file, rows),
    )


def _reset(template: Path, file: Path, rows: int) -> None:
    if not template.exists():
        url = f"sqlite+aiosqlite:///{template}"
        migrate(url)
        execute(url, seed(rows, MOMENT), "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")
    for leftover in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + leftover).unlink(missing_ok=True)
    shutil.copyfile(template, file)
