"""Stores and rows as tests of the verbs use them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from db.batching.queue import Limits
from db.engines.database import Database
from db.engines.engine import open_database
from db.resources.items import ITEMS
from db.tables.call import Call
from db.tables.storage import Storage
from db.tables.store import Store
from db.tables.table import Patch

CALL = Call()


class Row(NamedTuple):
    """An item, in the order of its columns."""

    id: int
    name: str
    price: float
    in_stock: bool
    owner_id: int | None
    version: int
    created_at: datetime
    updated_at: datetime


class NewRow(NamedTuple):
    """What an item is created with."""

    name: str
    price: float
    in_stock: bool
    owner_id: int | None = None


def patch(id: int, version: int | None = None, **values: Any) -> Patch:
    return Patch(id, version, values)


@asynccontextmanager
async def opened_storage(database_url: str) -> AsyncIterator[Storage]:
    database = open_database(database_url)
    limits = Limits(queue_wait_ms_max=60_000)  # a busy machine must not look like a busy service
    storage = Storage(database, limits, coalesce=True, batch_connections=6, idempotency_keys_max=1000)
    try:
        async with storage:
            yield storage
    finally:
        await database.close()


@asynccontextmanager
async def opened_items(
    database: Database, *, coalesce: bool = True, limits: Limits | None = None
) -> AsyncIterator[Store[Row]]:
    storage = Storage(database, limits or Limits(), coalesce=coalesce, batch_connections=6, idempotency_keys_max=1000)
    async with storage:
        yield Store(storage, ITEMS, Row)
