"""Retention: expired rows are deleted in steps so small that no other transaction waits for long."""

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import Self

from db.engines.database import Database
from db.errors import TimedOut
from db.models import CommitRecord, IdempotencyRecord, Token, table
from db.session import transaction
from db.transactions.expired_rows import ExpiredRows, ExpiredRowsByPages, ExpiredRowsByTime

log = logging.getLogger(__name__)

INTERVAL_S = 30
RETRY_S = 1  # after a failure, and twice as long after each further one, up to INTERVAL_S
# A commit record is needed until the request that looks it up ends, which may take 600 s.
COMMIT_RECORD_LIFETIME_S = 1200
# An expired token is listed for a week more: by then its owner has seen why a program does not come in any more.
EXPIRED_TOKEN_LIFETIME_S = 7 * 86_400


class ExpiredRowsCleaner:
    """Deletes what is older than its lifetime, about every INTERVAL_S: keys, commit records, and expired tokens.

    Each table has a task, which outlives every error: it is logged, and the next attempt is made soon.
    """

    def __init__(self, database: Database, *, key_lifetime_s: int) -> None:
        self._database = database
        self._expired_rows: list[ExpiredRows] = [
            ExpiredRowsByTime(table(IdempotencyRecord), key_lifetime_s),
            ExpiredRowsByTime(table(Token), EXPIRED_TOKEN_LIFETIME_S, "expires_at"),
        ]
        if database.can_disconnect:  # else there are no commit records
            self._expired_rows.append(ExpiredRowsByPages(table(CommitRecord), COMMIT_RECORD_LIFETIME_S))
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._clean_periodically(expired)) for expired in self._expired_rows]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await asyncio.gather(*self._tasks)

    async def clean(self) -> int:
        """Delete the expired rows, and return how many they were. Raise the errors of db.errors."""
        return sum([await self._clean(expired) for expired in self._expired_rows])

    async def _clean(self, expired: ExpiredRows) -> int:
        """Delete the expired rows of a table, step by step, and return how many they were."""
        deleted = 0
        while not self._closing.is_set():
            try:
                async with transaction(self._database) as session:
                    started = time.monotonic()
                    step = await expired.step(session)
            except TimedOut:
                if not expired.shrink():
                    raise
                continue
            deleted += step
            self._database.options.observer.cleaned(expired.rows.name, step)
            expired.took(time.monotonic() - started)
            if expired.advance():
                break
        return deleted

    async def _clean_periodically(self, expired: ExpiredRows) -> None:
        delay_s = retry_s = INTERVAL_S
        while not await self._closed_within(delay_s * random.uniform(0.5, 1.5)):  # noqa: S311 - jitter
            try:
                await self._clean(expired)
            except Exception as error:  # noqa: BLE001 - whatever it is, the rows of tomorrow expire as well
                log.warning("expired rows of %s were not deleted: %s", expired.rows.name, str(error) or repr(error))
                delay_s = retry_s = min(INTERVAL_S, RETRY_S if delay_s == INTERVAL_S else 2 * retry_s)
            else:
                delay_s = INTERVAL_S

    async def _closed_within(self, delay_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._closing.wait()
        return self._closing.is_set()
