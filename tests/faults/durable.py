"""A PostgreSQL that keeps what it has promised, as those in production do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conftest import migrate
from tests.support.postgres import PostgresServer

DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


@contextmanager
def durable_server(**options: Any) -> Iterator[PostgresServer]:
    """Return a server whose own database has the current schema."""
    settings = {**DURABLE, **options.pop("settings", {})}
    with PostgresServer(settings=settings, **options) as server:
        migrate(server.url())
        yield server
