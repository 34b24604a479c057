"""Which databases there are, by key."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from bench.database import Database
from bench.postgres import postgres
from bench.sqlite import sqlite

DATABASES: dict[str, Callable[[Path], AbstractContextManager[Database]]] = {"postgres": postgres, "sqlite": sqlite}
TITLES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}
