"""Idempotency keys: a write that its caller repeats happens once, and is answered as it was the first time.

The key is kept in the transaction of the write itself, with the answer: both are there, or neither is.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Text, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import Connection, Database, translate_errors
from db.engines.statement import Statement
from db.errors import Conflict, InvalidValue, KeyInUse, KeyReused, NotFound, VersionMismatch
from db.models import IdempotencyRecord, table
from db.transactions.runner import run_in_transaction

T = TypeVar("T")

keys = table(IdempotencyRecord)

IN_USE = "the request with this key is not finished"
REFUSALS = (NotFound, VersionMismatch, Conflict, InvalidValue)  # they changed nothing, and are an answer


class IdempotencyKey(NamedTuple):
    """A caller's key: digests, in hexadecimal, of where it holds, and of what was sent with it.

    `answer` gives what a repeat is answered with, of a result or a refusal.
    """

    scope: str
    fingerprint: str
    answer: Callable[[Any], bytes]


class ReplayedResponse(Exception):
    """The write was made before: this was its answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("the write was made before")
        self.answer = answer


class SessionConnection:
    """A session, for what runs on a connection."""

    closed = False

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: a session that has lost its connection says so when it is asked."""

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, Any],
        token: bytes | None = None,  # noqa: ARG002 - the transaction has its own
    ) -> list[Any]:
        """Run a statement and give its rows."""
        with translate_errors():
            return list(await self._session.execute(statement.source, values))


Work = Callable[[Connection], Awaitable[T]]


class Idempotency:
    """Does what was not done before."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[Hashable] = set()
        self._scopes = database.rows(scope=Text())
        self._find = select(keys.c.scope, keys.c.fingerprint, keys.c.answer).where(self._scopes.contains(keys.c.scope))

    @contextmanager
    def running(self, scope: str) -> Iterator[None]:
        """Keep a key for oneself. Raises KeyInUse."""
        if scope in self._running:
            raise KeyInUse(IN_USE)
        self._running.add(scope)
        try:
            yield
        finally:
            self._running.discard(scope)

    async def run_once(self, claim: IdempotencyKey, work: Work[T], timeout_s: float) -> T:
        """Do work, unless it was done before. Raises ReplayedResponse, KeyInUse, KeyReused and what the work does."""

        async def attempt(session: AsyncSession) -> T | Exception:
            [earlier] = await self.find(session, [claim])
            if earlier is not None:
                return earlier
            try:
                async with session.begin_nested():
                    result = await work(SessionConnection(session))
            except REFUSALS as refusal:
                await self.save(session, {claim: refusal})
                return refusal
            await self.save(session, {claim: result})
            return result

        with self.running(claim.scope):
            result = await run_in_transaction(self._database, attempt, timeout_s)
        if isinstance(result, Exception):
            raise result
        return result

    async def check(self, claim: IdempotencyKey, timeout_s: float) -> None:
        """Raise ReplayedResponse, KeyInUse or KeyReused if that is what a write would raise now.

        In a transaction that writes, as all of `run_in_transaction` do: a replay tells what a standby must have.
        """

        async def find(session: AsyncSession) -> Exception | None:
            [earlier] = await self.find(session, [claim])
            return earlier

        if (earlier := await run_in_transaction(self._database, find, timeout_s)) is not None:
            raise earlier

    async def find(self, session: AsyncSession, claims: Sequence[IdempotencyKey]) -> list[Exception | None]:
        """Tell for each claim that the work was done, or is being done; None where it is still to do."""
        free = await self._database.try_lock(session, [int(claim.scope[:15], 16) for claim in claims])
        scopes = self._scopes.bind([(claim.scope,) for claim in claims])
        found = {scope: rest for scope, *rest in await session.execute(self._find, scopes)}
        return [
            _earlier(claim, found.get(claim.scope)) if is_free else KeyInUse(IN_USE)
            for claim, is_free in zip(claims, free, strict=True)
        ]

    async def save(self, session: AsyncSession, results: Mapping[IdempotencyKey, Any]) -> None:
        """Keep what the work came to."""
        rows = [
            {"scope": claim.scope, "fingerprint": claim.fingerprint, "answer": claim.answer(result)}
            for claim, result in results.items()
        ]
        await session.execute(insert(keys), rows)


def _earlier(claim: IdempotencyKey, kept: Sequence[Any] | None) -> Exception | None:
    if kept is None:
        return None
    fingerprint, answer = kept
    return (
        ReplayedResponse(answer)
        if fingerprint == claim.fingerprint
        else KeyReused("the key belongs to another request")
    )
