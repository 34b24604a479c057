"""Idempotency keys: a write that its client repeats happens once, and a repeat gets the first response again.

The key and the response are stored in the transaction of the write itself: both are committed with it, or neither is.
See draft-ietf-httpapi-idempotency-key-header.
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

idempotency_records = table(IdempotencyRecord)

IN_USE = "the request with this key is not finished"
REFUSALS = (NotFound, VersionMismatch, Conflict, InvalidValue)  # nothing was changed, and the error is the response


class IdempotencyKey(NamedTuple):
    """A request's idempotency key: two digests, in hexadecimal, and how its response is encoded.

    `scope` identifies the key, `fingerprint` the request that was sent with it. `encode_response` turns the result of
    the write, or an error of REFUSALS, into the response that is stored for repeats.
    """

    scope: str
    fingerprint: str
    encode_response: Callable[[Any], bytes]


class ReplayedResponse(Exception):
    """The write happened before, with the stored `response`."""

    def __init__(self, response: bytes) -> None:
        super().__init__("the write happened before")
        self.response = response


class SessionConnection:
    """A session with the interface of a connection, for statements that run in its transaction."""

    closed = False

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: a session whose connection is lost raises that from the next statement."""

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, Any],
        token: bytes | None = None,  # noqa: ARG002 - the transaction has its own
    ) -> list[Any]:
        """Run a statement, and return its rows."""
        with translate_errors():
            return list(await self._session.execute(statement.source, values))


Work = Callable[[Connection], Awaitable[T]]


class Idempotency:
    """Runs each write once for its idempotency key, and stores its response."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: set[Hashable] = set()
        self._scopes = database.rows(scope=Text())
        self._find = select(
            idempotency_records.c.scope, idempotency_records.c.fingerprint, idempotency_records.c.response
        ).where(self._scopes.contains(idempotency_records.c.scope))

    @contextmanager
    def running(self, scope: str) -> Iterator[None]:
        """Reserve a key in this process for one request. Raise KeyInUse if another request has it."""
        if scope in self._running:
            raise KeyInUse(IN_USE)
        self._running.add(scope)
        try:
            yield
        finally:
            self._running.discard(scope)

    async def run_once(self, key: IdempotencyKey, work: Work[T], timeout_s: float) -> T:
        """Run work, and store its response, unless it was run before with the key; return its result.

        Raise ReplayedResponse if it was, KeyInUse while it runs, KeyReused if the key belongs to another request, and
        any error of the work.
        """

        async def attempt(session: AsyncSession) -> T | Exception:
            [error] = await self.find(session, [key])
            if error is not None:
                return error
            try:
                async with session.begin_nested():
                    result = await work(SessionConnection(session))
            except REFUSALS as refusal:
                await self.save(session, {key: refusal})
                return refusal
            await self.save(session, {key: result})
            return result

        with self.running(key.scope):
            result = await run_in_transaction(self._database, attempt, timeout_s)
        if isinstance(result, Exception):
            raise result
        return result

    async def check(self, key: IdempotencyKey, timeout_s: float) -> None:
        """Raise ReplayedResponse, KeyInUse or KeyReused if a write with this key would raise it now.

        The transaction writes, as all of `run_in_transaction` do: a synchronous standby must have what is replayed.
        """

        async def find(session: AsyncSession) -> Exception | None:
            [error] = await self.find(session, [key])
            return error

        if (error := await run_in_transaction(self._database, find, timeout_s)) is not None:
            raise error

    async def find(self, session: AsyncSession, keys: Sequence[IdempotencyKey]) -> list[Exception | None]:
        """Return, for each key, the error that a write with it raises, and None where it is to be run.

        That is KeyInUse while another transaction runs it, ReplayedResponse or KeyReused if the key is stored. The keys
        stay locked until the transaction ends.
        """
        locked = await self._database.try_lock(session, [int(key.scope[:15], 16) for key in keys])
        scopes = self._scopes.bind([(key.scope,) for key in keys])
        records = {scope: rest for scope, *rest in await session.execute(self._find, scopes)}
        return [
            _stored_error(key, records.get(key.scope)) if is_locked else KeyInUse(IN_USE)
            for key, is_locked in zip(keys, locked, strict=True)
        ]

    async def save(self, session: AsyncSession, results: Mapping[IdempotencyKey, Any]) -> None:
        """Store the response to the result, or to the refusal, of each key."""
        rows = [
            {"scope": key.scope, "fingerprint": key.fingerprint, "response": key.encode_response(result)}
            for key, result in results.items()
        ]
        await session.execute(insert(idempotency_records), rows)


def _stored_error(key: IdempotencyKey, record: Sequence[Any] | None) -> Exception | None:
    if record is None:
        return None
    fingerprint, response = record
    return (
        ReplayedResponse(response)
        if fingerprint == key.fingerprint
        else KeyReused("the key belongs to another request")
    )
