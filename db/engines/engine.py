"""The choice of a database by its URL: the only module that knows which there are."""

from db.engines.database import Database, Options
from db.engines.pgbouncer import PgBouncer
from db.engines.postgresql import PostgreSQL
from db.engines.sqlite import SQLite
from db.engines.url import parse_url, with_driver


def open_database(url: str, options: Options = Options()) -> Database:
    """Return the database of a URL, not connected yet.

    Raises ValueError or ArgumentError if the URL is invalid, and Unavailable if the system's SQLite is too old.
    """
    parsed = with_driver(parse_url(url))
    if parsed.get_backend_name() == "sqlite":
        return SQLite(parsed, options)
    return (PgBouncer if options.pgbouncer else PostgreSQL)(parsed, options)
