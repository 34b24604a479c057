"""The store of an audited table, whose every change is recorded in the transaction that makes it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.batcher import Batcher
from db.engines.database import Connection
from db.errors import OutcomeUnknown
from db.tables.audit import AuditLog, Written
from db.tables.call import Call
from db.tables.storage import Storage, TransactionSlot
from db.tables.store import Store
from db.tables.table import Table
from db.transactions.idempotency import KeyedWrite, SessionConnection
from db.transactions.runner import run_in_transaction


class Identified(Protocol):
    """A row, whatever else it has."""

    @property
    def id(self) -> int:
        """Return the row's id."""


T = TypeVar("T", bound=Identified)


class AuditedWrite(NamedTuple):
    """A write of one row, and the call that it belongs to, which has a deadline."""

    call: Call
    write: Any


class AuditedStore(Store[T]):
    """A store whose every change of a row is in the audit log, once, or not at all if it did not happen.

    So a write is a transaction of several statements, in place of one. Those that wait at the same time share it.
    """

    is_audited: ClassVar[bool] = True

    def __init__(self, storage: Storage, table: Table, make_row: Callable[..., T]) -> None:
        super().__init__(storage, table, make_row)
        self._audit_log = AuditLog(storage.database, table)
        self._audited_batcher = storage.batcher(
            f"{table.name} audited", self._run_audited, connections=storage.transactions, unique_keys=self._keys_of
        )

    def _write(self, batcher: Batcher[Any, Any, Any], call: Call, member: Any) -> Awaitable[Any]:  # noqa: ARG002
        call = self.bounded(call)
        audited = AuditedWrite(call, member)
        if call.idempotency is not None:
            return self._write_once(KeyedWrite(call.idempotency, call.deadline, audited), call.caller)
        return self._audited_batcher.submit(audited, call.deadline, call.caller)

    async def _run_audited(
        self, _slot: TransactionSlot, members: Sequence[AuditedWrite], _token: bytes
    ) -> Sequence[Any]:
        """Run a batch of writes in one transaction."""

        async def work(session: AsyncSession) -> list[Any]:
            return await self._run_writes(session, members)

        remaining_s = max(member.call.deadline for member in members) - asyncio.get_running_loop().time()
        try:
            return await run_in_transaction(self._database, work, remaining_s)
        except OutcomeUnknown as unknown:  # not raised, as then the batcher would run it again, under another token
            return [unknown] * len(members)

    async def _run_writes(self, session: AsyncSession, writes: Sequence[AuditedWrite]) -> list[Any]:
        members = [each.write for each in writes]
        before = await self._audit_log.before(SessionConnection(session), members)
        results = await super()._run_writes(session, members)
        written = [Written(*each, result) for each, result in zip(writes, results, strict=True)]
        await self._audit_log.save(session, before, written)
        return results

    async def _apply(
        self,
        session: AsyncSession,
        call: Call,
        verb: Callable[[Connection, Sequence[Any]], Awaitable[list[Any]]],
        writes: Sequence[Any],
    ) -> list[Any]:
        before = await self._audit_log.before(SessionConnection(session), writes)
        results = await super()._apply(session, call, verb, writes)
        written = [Written(call, write, result) for write, result in zip(writes, results, strict=True)]
        await self._audit_log.save(session, before, written)
        return results

    def _keys_of(self, write: Any) -> Collection[Hashable]:
        return super()._keys_of(write.write if isinstance(write, AuditedWrite) else write)
