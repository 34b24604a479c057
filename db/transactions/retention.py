"""Rows that have served: swept in steps that hold up nobody."""

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
# A commit record is of use until the request ends that wants to know of it, which may take 600 s.
COMMIT_RECORD_LIFETIME_S = 1200


class ExpiredRowsCleaner:
    """Deletes what is older than its lifetime, in seconds, every half a minute."""

    def __init__(self, database: Database, *, key_lifetime_s: int) -> None:
        self._database = database
        self._lifetimes: Mapping[Table, int] = {
            table(IdempotencyRecord): key_lifetime_s,
            table(CommitRecord): COMMIT_RECORD_LIFETIME_S,
        }
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_sweeping())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._task

    async def sweep(self) -> int:
        """Delete what is too old, and tell how many rows that was. Raises the words of db.errors."""
        swept = 0
        for rows, lifetime_s in self._lifetimes.items():
            while not self._closing.is_set():
                step = await self._step(rows, lifetime_s)
                swept += step
                if step < STEP_ROWS:
                    break
        return swept

    async def _step(self, rows: Table, lifetime_s: int) -> int:
        [key] = rows.primary_key
        # By the clock that the rows have their age from: this machine's may be another.
        until = seconds_ago(lifetime_s)
        # What another sweeps at this moment is left to it.
        old = select(key).where(rows.c.created_at < until).limit(STEP_ROWS).with_for_update(skip_locked=True)
        async with transaction(self._database) as session:
            gone = await session.scalars(delete(rows).where(key.in_(old)).returning(key))
            return len(gone.all())

    async def _keep_sweeping(self) -> None:
        while not await self._closed_within(INTERVAL_S * random.uniform(0.5, 1.5)):  # noqa: S311 - not in step
            try:
                await self.sweep()
            except DatabaseError as error:
                log.info("nothing was swept: %s", error)

    async def _closed_within(self, delay_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()
        return self._closing.is_set()
