"""An SQLite file: made once, copied anew for each contestant."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.database import Database, execute, migrate, query, seed


@contextmanager
def sqlite(folder: Path, rows: int) -> Iterator[Database]:
    """Keep a file with a migrated table; its work is done inside the contestants."""
    template, file = folder / "template.db", folder / "items.db"
    template_url = f"sqlite+aiosqlite:///{template}"
    migrate(template_url)
    execute(template_url, seed(rows), "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")
    yield Database(
        url=f"sqlite+aiosqlite:///{file}",
        version="SQLite " + query(template_url, "SELECT sqlite_version()"),
        reset=lambda: _reset(template, file),
    )


def _reset(template: Path, file: Path) -> None:
    for leftover in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + leftover).unlink(missing_ok=True)
    shutil.copyfile(template, file)
