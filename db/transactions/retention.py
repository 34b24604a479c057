"""Retention: expired rows are deleted in steps so small that no other transaction waits for long."""

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from sqlalchemy import Table, delete, select

from db.engines.database import Database
from db.errors import DatabaseError
from db.models import CommitRecord, IdempotencyRecord, table
from db.session import transaction
from db.types import seconds_ago

log = logging.getLogger(__name__)

STEP_ROWS = 1000
INTERVAL_S = 30
# A commit record is needed until the request that looks it up ends, which may take 600 s.
COMMIT_RECORD_LIFETIME_S = 1200


class ExpiredRowsCleaner:
    """Deletes idempotency keys and commit records that are older than their lifetimes, about every INTERVAL_S."""

    def __init__(self, database: Database, *, key_lifetime_s: int) -> None:
        self._database = database
        self._lifetimes: Mapping[Table, int] = {
            table(IdempotencyRecord): key_lifetime_s,
            table(CommitRecord): COMMIT_RECORD_LIFETIME_S,
        }
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._clean_periodically())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._task

    async def clean(self) -> int:
        """Delete the expired rows, and return how many they were. Raise the errors of db.errors."""
        deleted = 0
        for rows, lifetime_s in self._lifetimes.items():
            while not self._closing.is_set():
                step = await self._delete_step(rows, lifetime_s)
                deleted += step
                if step < STEP_ROWS:
                    break
        return deleted

    async def _delete_step(self, rows: Table, lifetime_s: int) -> int:
        [id] = rows.primary_key
        # By the database's clock, which `created_at` is from: this machine's may differ.
        expiry = seconds_ago(lifetime_s)
        # Rows that another worker is deleting are left to it.
        expired = select(id).where(rows.c.created_at < expiry).limit(STEP_ROWS).with_for_update(skip_locked=True)
        async with transaction(self._database) as session:
            deleted = await session.scalars(delete(rows).where(id.in_(expired)).returning(id))
            return len(deleted.all())

    async def _clean_periodically(self) -> None:
        while not await self._closed_within(INTERVAL_S * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
            try:
                await self.clean()
            except DatabaseError as error:
                log.info("expired rows were not deleted: %s", error)

    async def _closed_within(self, delay_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()
        return self._closing.is_set()
