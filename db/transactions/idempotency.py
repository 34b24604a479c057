"""Idempotency keys: a write that its client repeats happens once, and a repeat gets the first response again.

The key and the response are stored in the transaction of the write itself: both are committed with it, or neither is.
See draft-ietf-httpapi-idempotency-key-header.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from sqlalchemy import Text, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.entry import Caller
from db.engines.advisory_locks import Lock
from db.engines.database import Database, translate_errors
from db.engines.statement import Statement
from db.errors import KeyInUse, KeyReused, Overloaded, TimedOut
from db.limit import Limit
from db.models import IdempotencyRecord, table
from db.transactions.runner import run_in_transaction

log = logging.getLogger(__name__)

Work = Callable[[AsyncSession, Sequence[Any]], Awaitable[Sequence[Any]]]

idempotency_records = table(IdempotencyRecord)

IN_USE = "the request with this key is not finished"
REUSED = "the key belongs to another request"
TOO_MANY = "too many idempotency keys are remembered; a write without one is not refused"
COUNT_INTERVAL_S = 10


class IdempotencyKey(NamedTuple):
    """A request's idempotency key: two digests, in hexadecimal, and how its response is encoded.

    `scope` identifies the key, `fingerprint` the request that was sent with it. `encode_response` turns the result of
    the write, or the error that refused it, into the response that is stored for repeats.
    """

    scope: str
    fingerprint: str
    encode_response: Callable[[Any], bytes]


class KeyedWrite(NamedTuple):
    """A write of a request with an idempotency key, and the request's deadline by the loop's clock."""

    key: IdempotencyKey
    deadline: float
    write: Any


class ReplayedResponse(Exception):
    """The write happened before, with the stored `response`."""

    def __init__(self, response: bytes) -> None:
        super().__init__("the write happened before")
        self.response = response


class SessionConnection:
    """A session with the interface of a connection, for statements that run in its transaction."""

    autocommits = False

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, Any],
        token: bytes | None = None,  # noqa: ARG002 - the transaction has its own
    ) -> list[Any]:
        """Run a statement, and return its rows."""
        with translate_errors():
            return list(await self._session.execute(statement.source, values))


class Idempotency:
    """Runs each write once for its idempotency key, and stores its response; no new ones if about `keys_max` are.

    The keys are counted in a transaction of theirs, every COUNT_INTERVAL_S, so their number may go over that by as
    many as are new meanwhile.
    """

    def __init__(self, database: Database, keys_max: int) -> None:
        self._database = database
        self._keys_max = keys_max
        self._count = text(database.row_count.format(idempotency_records.name))
        self._count_due = 0.0
        self._is_full = False
        self._running: dict[str, str] = {}  # the fingerprint of each scope
        self._scopes = database.rows(scope=Text())
        self._find = select(
            idempotency_records.c.scope, idempotency_records.c.fingerprint, idempotency_records.c.response
        ).where(self._scopes.contains(idempotency_records.c.scope))

    @asynccontextmanager
    async def running(self, key: IdempotencyKey, timeout_s: float, caller: Caller = None) -> AsyncIterator[None]:
        """Reserve a key in this process for one request.

        Raise KeyInUse while it runs. While another's runs, raise ReplayedResponse if that one is refused as the key
        belongs to this request, else KeyReused.
        """
        running = self._running.get(key.scope)
        if running is not None:
            raise (
                KeyInUse(IN_USE) if running == key.fingerprint else await self._replay_or_reuse(key, timeout_s, caller)
            )
        self._running[key.scope] = key.fingerprint
        try:
            yield
        finally:
            del self._running[key.scope]

    async def _replay_or_reuse(self, key: IdempotencyKey, timeout_s: float, caller: Caller) -> Exception:
        async def run(session: AsyncSession) -> Exception | None:
            return (await self._recorded(session, [key]))[0]

        # Where a record that is read may not be durable yet, the transaction has to write: see replication.
        writes = self._database.can_disconnect
        found = await run_in_transaction(self._database, run, timeout_s, writes=writes, caller=caller)
        return found or KeyReused(REUSED)

    async def run_once(
        self, writes: Sequence[KeyedWrite], work: Work, timeout_s: float, caller: Caller = None
    ) -> list[Any]:
        """Run the writes that were not run before, and store their responses, in one transaction; return the results.

        `work` returns a result for each of the writes that it is given. Where it returns an exception, there is no
        record. In place of the others' results there is ReplayedResponse if the write was run before, KeyInUse while it
        runs, KeyReused if the key belongs to another request, Overloaded if there are too many keys, and TimedOut past
        the deadline. Raise any error of `work` itself, and change nothing then.
        """
        clock = asyncio.get_running_loop().time

        async def run(session: AsyncSession) -> list[Any]:
            stored = await self._stored(session, [each.key for each in writes])
            # This may be a retry: a client whose deadline has passed was sent OutcomeUnknown, and must not have it
            # written now.
            late = [TimedOut("the deadline has passed") if each.deadline <= clock() else None for each in writes]
            errors = [found or expired for found, expired in zip(stored, late, strict=True)]
            new = [each for each, error in zip(writes, errors, strict=True) if error is None]
            results = await work(session, [each.write for each in new]) if new else []
            written = zip(new, results, strict=True)
            await self._save(
                session, {each.key: result for each, result in written if not isinstance(result, Exception)}
            )
            following = iter(results)
            return [next(following) if error is None else error for error in errors]

        return await run_in_transaction(self._database, run, timeout_s, caller=caller)

    async def save_refusal(
        self, key: IdempotencyKey, refusal: Exception, timeout_s: float, caller: Caller = None
    ) -> None:
        """Store the response to the refusal of a write, which changed nothing.

        Raise ReplayedResponse, KeyInUse, KeyReused or Overloaded if the write itself would raise it now.
        """

        async def run(session: AsyncSession) -> Exception | None:
            [error] = await self._stored(session, [key])
            if error is None:
                await self._save(session, {key: refusal})
            return error

        if (error := await run_in_transaction(self._database, run, timeout_s, caller=caller)) is not None:
            raise error

    async def _stored(self, session: AsyncSession, keys: Sequence[IdempotencyKey]) -> list[Exception | None]:
        """Return, for each key, the error that a write with it raises, and None where it is to be run.

        The keys stay locked until the transaction ends.
        """
        if self._count_due <= asyncio.get_running_loop().time():
            await self._check_count(session)
        locks = [Lock(int(key.scope[:15], 16), int(key.fingerprint[:8], 16) >> 1) for key in keys]
        held = await self._database.try_lock(session, locks)
        recorded = await self._recorded(session, keys)  # which is final, whatever another request is told meanwhile
        new = Overloaded(TOO_MANY, Limit.IDEMPOTENCY_KEYS) if self._is_full else None
        return [
            found or (new if marks is None else _running_error(lock, marks))
            for found, lock, marks in zip(recorded, locks, held, strict=True)
        ]

    async def _recorded(self, session: AsyncSession, keys: Sequence[IdempotencyKey]) -> list[Exception | None]:
        """Return, for each key, the error of a write with it if one was run before."""
        scopes = self._scopes.bind([(key.scope,) for key in keys])
        records = {scope: rest for scope, *rest in await session.execute(self._find, scopes)}
        return [_recorded_error(key, *records.get(key.scope, ())) for key in keys]

    async def _check_count(self, session: AsyncSession) -> None:
        self._count_due = asyncio.get_running_loop().time() + COUNT_INTERVAL_S
        count = await session.scalar(self._count) or 0
        was_full, self._is_full = self._is_full, count >= self._keys_max
        if self._is_full > was_full:
            log.warning("writes with new idempotency keys are refused: about %d keys are remembered already", count)
        elif was_full > self._is_full:
            log.info("writes with new idempotency keys are accepted again")

    async def _save(self, session: AsyncSession, results: Mapping[IdempotencyKey, Any]) -> None:
        """Store the response to the result, or to the refusal, of each key."""
        rows = [
            {"scope": key.scope, "fingerprint": key.fingerprint, "response": key.encode_response(result)}
            for key, result in results.items()
        ]
        if rows:
            await session.execute(insert(idempotency_records), rows)


def _recorded_error(key: IdempotencyKey, fingerprint: str = "", response: bytes = b"") -> Exception | None:
    if not fingerprint:
        return None
    return ReplayedResponse(response) if fingerprint == key.fingerprint else KeyReused(REUSED)


def _running_error(lock: Lock, marks: Collection[int]) -> Exception:
    """Return why a key that another worker has cannot be had: its mark is of the fingerprint, if it put one."""
    return KeyInUse(IN_USE) if lock.mark in marks or not marks else KeyReused(REUSED)
