"""A database behind its URL: the only file that asks which one it is."""

from db.engines.database import Database, Options
from db.engines.pgbouncer import PgBouncer
from db.engines.postgresql import PostgreSQL
from db.engines.sqlite import SQLite
from db.engines.url import parse_url


def open_database(url: str, options: Options = Options()) -> Database:
    """Make the database of a URL; nothing is connected yet."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SQLite(parsed, options)
    return (PgBouncer if options.pgbouncer else PostgreSQL)(parsed, options)
