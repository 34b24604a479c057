"""The other path: work that touches several tables or several statements flushes, then commits."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from db import receipts
from db.database import Database, translated
from db.errors import Contended, Lost, OutcomeUnknown, TimedOut

T = TypeVar("T")

log = logging.getLogger(__name__)

TRIES = 4  # the first, and three more where others were in the way
RETRY_DELAY_S = 0.02
# The database gives up a little earlier than those who wait for it, so that the connection survives.
DATABASE_SHARE = 0.9


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[AsyncSession]:
    """Yield a session; on leaving, flush and commit, or on any exception, cancellation included, roll back.

    Flushing first surfaces constraint errors and assigns ids while everything can still be undone. Once the block was
    left without an exception the changes are durable. Raises the words of db.errors.
    """
    async with database.turns.to_write, AsyncSession(database.engine, expire_on_commit=False) as session:
        with translated():
            yield session
            await session.flush()
        with translated(committing=True):
            await session.commit()


async def transact(database: Database, work: Callable[[AsyncSession], Awaitable[T]], timeout_s: float) -> T:
    """Do work in a transaction: exactly once, or not at all.

    It is done again where others were in the way, or the connection was lost before the commit. What became of a commit
    that was not answered is found out. Raises the words of db.errors; TimedOut if nothing has changed.
    """
    transacting = _Transacting(database, work, timeout_s)
    task = asyncio.create_task(transacting.until_known())
    try:
        # Undoing may take longer than the caller can wait.
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done():
            return task.result()
    finally:
        database.abandon(task)  # a finished one too: its exception is to be retrieved if the caller was cancelled
    raise transacting.fault()


class _Transacting(Generic[T]):
    """Work on its way to being done."""

    def __init__(self, database: Database, work: Callable[[AsyncSession], Awaitable[T]], timeout_s: float) -> None:
        self._database = database
        self._work = work
        self._limit_ms = max(1, int(timeout_s * 1000 * DATABASE_SHARE))
        self._committing = False

    def fault(self) -> OutcomeUnknown | TimedOut:
        """Tell what is known when nobody can wait any longer."""
        return OutcomeUnknown("it was being committed") if self._committing else TimedOut("it took too long")

    async def until_known(self) -> T:
        """Try, until nothing else is left to try."""
        for number in range(1, TRIES + 1):
            try:
                return await self._once()
            except (Contended, Lost):
                if number == TRIES:
                    raise
            await _pause(number)
        raise AssertionError("the last try returns or raises")

    async def _once(self) -> T:
        """Try once. Raises Lost if nothing was changed, and nothing will be."""
        token = uuid4()
        results: list[T] = []
        self._committing = False
        try:
            async with transaction(self._database) as session:
                if self._limit_ms < self._database.options.statement_timeout_ms:
                    await self._database.limit(session, self._limit_ms)
                results.append(await self._work(session))
                if self._database.remote:
                    await receipts.leave(session, token)
                self._committing = True
        except OutcomeUnknown:
            if not await self._happened(token):
                self._committing = False
                raise Lost("the commit was not confirmed, and did not happen") from None
        return results[0]

    async def _happened(self, token: UUID) -> bool:
        """Find out what became of a commit, as soon as the database can be asked."""
        number = 0
        while True:
            number += 1
            try:
                async with transaction(self._database) as session:
                    return await receipts.find(session, token)
            except Exception as error:  # noqa: BLE001 - none of them tells what became of the commit
                log.info("it is not known yet what became of a commit: %s", error)
                await _pause(number)


async def _pause(number: int) -> None:
    await asyncio.sleep(min(0.5, RETRY_DELAY_S * 2**number) * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
