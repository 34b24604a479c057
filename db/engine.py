"""A database behind its URL: the only file that asks which one it is."""

from db.database import Database, Options
from db.hosts import parse_url
from db.pgbouncer import PgBouncer
from db.postgresql import PostgreSQL
from db.sqlite import SQLite


def open_database(url: str, options: Options = Options()) -> Database:
    """Make the database of a URL; nothing is connected yet."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SQLite(parsed, options)
    return (PgBouncer if options.pgbouncer else PostgreSQL)(parsed, options)
