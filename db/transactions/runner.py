"""Transactions that are committed exactly once, or not at all, even if the connection is lost."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.entry import Caller
from db.engines.database import Database
from db.errors import ConnectionLost, OutcomeUnknown, SerializationFailure, TimedOut
from db.observer import Event
from db.session import transaction
from db.transactions import commit_log

T = TypeVar("T")

log = logging.getLogger(__name__)

ATTEMPTS_MAX = 4
RETRY_DELAY_S = 0.02
# The database cancels a statement a little before its request gives up waiting, so that the connection survives.
STATEMENT_TIMEOUT_SHARE = 0.9


async def run_in_transaction(
    database: Database,
    work: Callable[[AsyncSession], Awaitable[T]],
    timeout_s: float,
    *,
    writes: bool = True,
    caller: Caller = None,
) -> T:
    """Run work in a transaction that is committed exactly once, or not at all, and return its result.

    The transaction is run again after a SerializationFailure, or if the connection was lost before the commit; if it
    was lost during the commit, the outcome is looked up. Raise the errors of db.errors: after `timeout_s`, TimedOut if
    nothing was changed, else OutcomeUnknown.
    """
    runner = TransactionRunner(database, work, timeout_s, writes=writes, caller=caller)
    task = asyncio.create_task(runner.run())
    try:
        # A rollback may take longer than the request can wait.
        await asyncio.wait({task}, timeout=timeout_s)
        if task.done():
            return task.result()
    finally:
        runner.is_over = True
        # Also if it is done: its exception must be retrieved if this request was cancelled.
        database.abandon(task, cancel=runner.may_be_cancelled)
    raise runner.timeout_error()


class TransactionRunner(Generic[T]):
    """Runs one transaction until it is committed, or cannot be."""

    def __init__(
        self,
        database: Database,
        work: Callable[[AsyncSession], Awaitable[T]],
        timeout_s: float,
        *,
        writes: bool,
        caller: Caller,
    ) -> None:
        self._database = database
        self._observer = database.options.observer
        self._work = work
        self._statement_timeout_ms = max(1, int(timeout_s * 1000 * STATEMENT_TIMEOUT_SHARE))
        self._writes = writes
        self._caller = caller
        self._committing = False
        self.is_over = False  # whether nobody waits for it any more: then it is rolled back
        # SQLAlchemy closes a connection whose call is cancelled. That of SQLite then stays open, with its transaction,
        # until its cursor is collected; in memory, it is the database. So there, what has begun runs to its end.
        self.may_be_cancelled = True

    def timeout_error(self) -> OutcomeUnknown | TimedOut:
        """Return the error for a request whose time is over: OutcomeUnknown during a commit, else TimedOut."""
        if self._committing:
            return OutcomeUnknown("the transaction was being committed")
        return TimedOut("the transaction took too long")

    async def run(self) -> T:
        """Run the transaction, up to ATTEMPTS_MAX times, and return the result of its work."""
        for number in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._attempt()
            except (SerializationFailure, ConnectionLost):
                if number == ATTEMPTS_MAX or self.is_over:
                    raise
            self._observer.happened(Event.TRANSACTION_RETRIED)
            await _pause(number)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self) -> T:
        """Run the transaction once. Raise ConnectionLost if it was not committed, and cannot be any more."""
        token = uuid4()
        results: list[T] = []
        self._committing = False
        try:
            async with transaction(self._database, writes=self._writes, caller=self._caller) as session:
                self.may_be_cancelled = self._database.can_disconnect
                if self._statement_timeout_ms < self._database.options.statement_timeout_ms:
                    await self._database.limit(session, self._statement_timeout_ms)
                results.append(await self._work(session))
                if self.is_over:
                    raise self.timeout_error()
                if self._writes and self._database.can_disconnect:
                    await commit_log.save(session, token)
                self._committing = self._writes
        except OutcomeUnknown:
            committed = await self._was_committed(token)
            self._observer.happened(Event.FOUND_COMMITTED if committed else Event.FOUND_NOT_COMMITTED)
            if not committed:
                self._committing = False
                raise ConnectionLost("the commit was not confirmed, and did not happen") from None
        finally:
            self.may_be_cancelled = True
        return results[0]

    async def _was_committed(self, token: UUID) -> bool:
        """Return whether a transaction was committed, as soon as the database can be reached."""
        number = 0
        while True:
            number += 1
            try:
                async with transaction(self._database) as session:
                    return await commit_log.find(session, token)
            except Exception as error:  # noqa: BLE001 - no error is the outcome of the commit
                log.info("the outcome of a commit is not known yet: %s", error)
                await _pause(number)


async def _pause(number: int) -> None:
    await asyncio.sleep(min(0.5, RETRY_DELAY_S * 2**number) * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
