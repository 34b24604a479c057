"""A transaction that is run exactly once, or not at all, whatever becomes of its connection."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import Database
from db.errors import ConnectionLost, OutcomeUnknown, SerializationFailure, TimedOut
from db.session import transaction
from db.transactions import commit_log

T = TypeVar("T")

log = logging.getLogger(__name__)

TRIES = 4  # the first, and three more where others were in the way
RETRY_DELAY_S = 0.02
# The database gives up a little earlier than those who wait for it, so that the connection survives.
DATABASE_SHARE = 0.9


async def run_in_transaction(database: Database, work: Callable[[AsyncSession], Awaitable[T]], timeout_s: float) -> T:
    """Do work in a transaction: exactly once, or not at all.

    It is done again where others were in the way, or the connection was lost before the commit. What became of a commit
    that was not answered is found out. Raises the words of db.errors; TimedOut if nothing has changed.
    """
    transacting = TransactionRunner(database, work, timeout_s)
    task = asyncio.create_task(transacting.run())
    try:
        # Undoing may take longer than the caller can wait.
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done():
            return task.result()
    finally:
        database.abandon(task)  # a finished one too: its exception is to be retrieved if the caller was cancelled
    raise transacting.fault()


class TransactionRunner(Generic[T]):
    """Work on its way to being done."""

    def __init__(self, database: Database, work: Callable[[AsyncSession], Awaitable[T]], timeout_s: float) -> None:
        self._database = database
        self._work = work
        self._limit_ms = max(1, int(timeout_s * 1000 * DATABASE_SHARE))
        self._committing = False

    def fault(self) -> OutcomeUnknown | TimedOut:
        """Return what is known when nobody can wait any longer."""
        return OutcomeUnknown("it was being committed") if self._committing else TimedOut("it took too long")

    async def run(self) -> T:
        """Try, until nothing else is left to try."""
        for number in range(1, TRIES + 1):
            try:
                return await self._once()
            except (SerializationFailure, ConnectionLost):
                if number == TRIES:
                    raise
            await _pause(number)
        raise AssertionError("the last try returns or raises")

    async def _once(self) -> T:
        """Try once. Raises ConnectionLost if nothing was changed, and nothing will be."""
        token = uuid4()
        results: list[T] = []
        self._committing = False
        try:
            async with transaction(self._database) as session:
                if self._limit_ms < self._database.options.statement_timeout_ms:
                    await self._database.limit(session, self._limit_ms)
                results.append(await self._work(session))
                if self._database.can_disconnect:
                    await commit_log.save(session, token)
                self._committing = True
        except OutcomeUnknown:
            if not await self._was_committed(token):
                self._committing = False
                raise ConnectionLost("the commit was not confirmed, and did not happen") from None
        return results[0]

    async def _was_committed(self, token: UUID) -> bool:
        """Find out what became of a commit, as soon as the database can be asked."""
        number = 0
        while True:
            number += 1
            try:
                async with transaction(self._database) as session:
                    return await commit_log.find(session, token)
            except Exception as error:  # noqa: BLE001 - none of them tells what became of the commit
                log.info("it is not known yet what became of a commit: %s", error)
                await _pause(number)


async def _pause(number: int) -> None:
    await asyncio.sleep(min(0.5, RETRY_DELAY_S * 2**number) * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
