"""A database behind its URL: the only file that asks which one it is."""

from sqlalchemy import make_url

from db.database import Database, Options
from db.postgresql import PostgreSQL
from db.sqlite import SQLite


def open_database(url: str, options: Options = Options()) -> Database:
    """Make the database of a URL; nothing is connected yet."""
    parsed = make_url(url)
    return (PostgreSQL if parsed.get_backend_name() == "postgresql" else SQLite)(parsed, options)
