"""The store of a table: every verb, for one row and for many, with deadlines and under idempotency keys."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.batcher import Batcher
from db.engines.database import Connection
from db.tables.batched_pages import PAGES_MAX
from db.tables.bulk import BATCHES_MAX, BULK_IN_FLIGHT, batch_group, deleted_ids, run_alone
from db.tables.call import Call
from db.tables.pagination import Page, Query
from db.tables.refusals import all_or_nothing
from db.tables.statements import TableStatements
from db.tables.storage import LIST_CONNECTIONS, Storage, TransactionSlot
from db.tables.table import Deletion, Patch, Row, Table
from db.transactions.idempotency import KeyedWrite, SessionConnection
from db.transactions.runner import run_in_transaction

T = TypeVar("T")
U = TypeVar("U")
W = TypeVar("W", Patch, Deletion)

PAGE_BATCHES_IN_FLIGHT = 2  # while one batch of pages is decoded, the database reads the next


class Store(Generic[T]):
    """The verbs of a table's rows; results are in the order of the arguments, a row is `make_row(*columns)`.

    Concurrent calls of one verb for one row share a statement, and so do pages (batched_pages.py) and small calls of
    `get_many`, and of `create_many` where nothing may be refused (bulk.py): a batcher runs them as one batch. Verbs for
    many rows write all of their rows or none. Every verb raises the errors of db.errors; under an idempotency key a
    write also raises ReplayedResponse, KeyInUse and KeyReused. A call with an owner updates and deletes rows of this
    user and of nobody alone, where the table's rows have owners; for any other row it raises NotOwner.
    """

    is_audited: ClassVar[bool] = False

    def __init__(self, storage: Storage, table: Table, make_row: Callable[..., T]) -> None:
        if self.is_audited is (table.audited is None):
            raise TypeError(f"{table.name} needs {'a Store' if self.is_audited else 'an AuditedStore'}")
        self.table = table
        self._database = storage.database
        self._idempotency = storage.idempotency
        self._timeout_s = storage.limits.timeout_ms / 1000
        self._make_row = make_row
        self._statements = statements = TableStatements(storage.database, table, make_row)
        self._make_batchers(storage)
        # The verbs of the batches of keyed writes, by the type of their members.
        self._verbs: dict[type, tuple[Callable[..., Any], Callable[..., Collection[Hashable]]]] = {
            tuple: (statements.create, table.unique_in_row),
            Patch: (statements.update, self._keys_of_patch),
            Deletion: (statements.delete, _keys_of_deletion),
        }

    def _make_batchers(self, storage: Storage) -> None:
        statements, table = self._statements, self.table

        def batcher(verb: str, run: Any, **options: Any) -> Batcher[Any, Any, Any]:
            return storage.batcher(f"{table.name} {verb}", run, **options)

        bulk_in_flight = BULK_IN_FLIGHT
        pages_in_flight = PAGE_BATCHES_IN_FLIGHT if storage.coalesce else storage.connections.size
        if storage.database.runs_in_process:
            # Its threads and the event loop wait for one another's lock at each row: two statements of one batcher side
            # by side are slower than one after the other.
            bulk_in_flight = pages_in_flight = 1

        self._get_batcher = batcher("get", statements.get, deduplicate=storage.coalesce, idempotent=True)
        self._create_batcher = batcher(
            "create", statements.create, unique_keys=table.unique_in_row if table.unique else None
        )
        self._update_batcher = batcher("update", statements.update, unique_keys=self._keys_of_patch)
        self._delete_batcher = batcher("delete", statements.delete, unique_keys=_keys_of_deletion)
        self._keyed_batcher = batcher("keyed", self._run_once, connections=storage.transactions, unique_keys=self._keys)

        bulk: dict[str, Any] = {"in_flight_max": bulk_in_flight}
        shared = {**bulk, "members_max": BATCHES_MAX, "group_key": batch_group}
        self._bulk_read_batcher = batcher("bulk read", statements.get_many, idempotent=True, **shared)
        self._bulk_create_batcher = batcher("bulk create", statements.create_many, **shared)
        self._bulk_write_batcher = batcher("bulk write", run_alone, members_max=1, **bulk)

        reads: dict[str, Any] = {"idempotent": True, "deduplicate": storage.coalesce}
        lists = {**reads, "connections": storage.list_connections, "members_max": 1}
        self._page_batcher = batcher("page", self._page_batch, in_flight_max=LIST_CONNECTIONS, **lists)
        self._counted_page_batcher = batcher("counted page", self._page_batch, in_flight_max=1, slow=True, **lists)
        pages = {**reads, "members_max": PAGES_MAX, "group_key": statements.batched_pages.key}
        self._batched_page_batcher = batcher("batched page", statements.pages, in_flight_max=pages_in_flight, **pages)

    def bounded(self, call: Call) -> Call:
        """Return a call with a deadline for all steps of its request: no later than the service's limit from now."""
        return call.within(self._timeout_s)

    def remaining_s(self, call: Call) -> float:
        """Return the seconds that are left for a call, within the service's limit."""
        return self.bounded(call).deadline - asyncio.get_running_loop().time()

    def get(self, call: Call, id: int) -> Awaitable[T]:
        """Return a row. Raise NotFound."""
        return self._get_batcher.submit(id, call.deadline, call.caller)

    def page(self, call: Call, query: Query) -> Awaitable[Page[T]]:
        """Return a page of the list.

        One with a count, which reads every row, waits for others of its kind alone. One of at most a hundred rows,
        without filters, offset and count, shares a statement with others.
        """
        if self._statements.batched_pages.includes(query):
            batcher = self._batched_page_batcher
        else:
            batcher = self._counted_page_batcher if query.count else self._page_batcher
        return batcher.submit(query, call.deadline, call.caller)

    def create(self, call: Call, row: Row) -> Awaitable[T]:
        """Create a row, and return it. Raise AlreadyExists, UnknownReference, Conflict or InvalidValue."""
        return self._write(self._create_batcher, call, self.table.stored_row(row))

    def update(self, call: Call, patch: Patch) -> Awaitable[T]:
        """Update a row, and return it. Raise NotFound or VersionMismatch, or what `create` raises."""
        return self._write(self._update_batcher, call, self._owned(call, patch))

    def delete(self, call: Call, deletion: Deletion) -> Awaitable[None]:
        """Delete a row. Raise NotFound, VersionMismatch or StillReferenced."""
        return self._write(self._delete_batcher, call, self._owned(call, deletion))

    async def get_many(self, call: Call, ids: Sequence[int]) -> list[T]:
        """Return the rows that exist, in the order of `ids`."""
        found: list[T] = await self._bulk_read_batcher.submit(tuple(ids), call.deadline, call.caller)
        return found

    async def create_many(self, call: Call, rows: Sequence[Row]) -> list[T]:
        """Create rows, all or none, and return them. Raise what `create` raises."""
        rows = list(map(self.table.stored_row, rows))
        if call.idempotency is None and not (self.is_audited or self._statements.may_refuse_rows(rows)):
            return all_or_nothing(await self._bulk_create_batcher.submit(tuple(rows), call.deadline, call.caller))

        async def work(session: AsyncSession) -> list[T]:
            return all_or_nothing(await self._apply(session, call, self._statements.create_all, rows))

        return await self.in_transaction(call, work)

    async def update_many(self, call: Call, patches: Sequence[Patch]) -> list[T]:
        """Update rows, all or none, each id at most once, and return them. Raise what `update` raises."""
        patches = [self._owned(call, patch) for patch in patches]

        async def work(session: AsyncSession) -> list[T]:
            return all_or_nothing(await self._apply(session, call, self._statements.update_all, patches))

        return await self.in_transaction(call, work)

    async def delete_many(self, call: Call, ids: Sequence[int]) -> list[int]:
        """Delete the rows that exist, and return their ids in the order of `ids`. Raise StillReferenced."""
        deletions = [self._owned(call, Deletion(id)) for id in ids]
        may_refuse = self._statements.may_refuse_deletions or (call.owner is not None and self.table.owner is not None)
        if call.idempotency is None and not (self.is_audited or may_refuse):
            delete = partial(self._statements.delete, deletions=deletions)
            return deleted_ids(ids, await self._bulk_write_batcher.submit(delete, call.deadline, call.caller))

        async def work(session: AsyncSession) -> list[int]:
            return deleted_ids(ids, await self._apply(session, call, self._statements.delete, deletions))

        return await self.in_transaction(call, work)

    async def in_transaction(self, call: Call, work: Callable[[AsyncSession], Awaitable[U]]) -> U:
        """Run work in one transaction, once under the call's idempotency key, and return its result.

        The transaction may be run again, for the reasons that `run_in_transaction` has.
        """
        if call.idempotency is None:
            return await run_in_transaction(self._database, work, self.remaining_s(call), caller=call.caller)

        async def run(session: AsyncSession, _writes: Sequence[None]) -> list[U]:
            return [await work(session)]

        async with self._idempotency.running(call.idempotency, self.remaining_s(call), call.caller):
            writes = [KeyedWrite(call.idempotency, self.bounded(call).deadline, None)]
            [result] = await self._idempotency.run_once(writes, run, self.remaining_s(call), call.caller)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return] # what `run` returns in the list

    def _owned(self, call: Call, write: W) -> W:
        """Return a write that is refused for the rows of others than the call's owner, if there is one."""
        return write if call.owner is None or self.table.owner is None else write._replace(owner=call.owner)

    def _write(self, batcher: Batcher[Any, Any, Any], call: Call, member: Row | Patch | Deletion) -> Awaitable[Any]:
        if call.idempotency is None:
            return batcher.submit(member, call.deadline, call.caller)
        return self._write_once(KeyedWrite(call.idempotency, self.bounded(call).deadline, member), call.caller)

    async def _write_once(self, keyed: KeyedWrite, caller: int | None) -> Any:
        """Write in one transaction with concurrent requests that have an idempotency key."""
        remaining_s = keyed.deadline - asyncio.get_running_loop().time()
        async with self._idempotency.running(keyed.key, remaining_s, caller):
            return await self._keyed_batcher.submit(keyed, keyed.deadline, caller)

    async def _page_batch(self, connection: Connection, queries: Sequence[Query], _token: bytes) -> list[Page[T]]:
        return [await self._statements.page(connection, query) for query in queries]

    async def _run_once(self, _slot: TransactionSlot, members: Sequence[KeyedWrite], _token: bytes) -> list[Any]:
        """Run a batch of keyed writes in one transaction."""
        remaining_s = max(member.deadline for member in members) - asyncio.get_running_loop().time()
        return await self._idempotency.run_once(members, self._run_writes, remaining_s)

    async def _run_writes(self, session: AsyncSession, writes: Sequence[Any]) -> list[Any]:
        """Run writes in a transaction, with one statement for each verb, and return a result for each."""
        results: list[Any] = [None] * len(writes)
        if not self.is_audited and {Patch, Deletion} <= set(map(type, writes)):  # the audit log has locked them
            changed = [write.id for write in writes if type(write) in {Patch, Deletion}]
            await self._statements.lock(SessionConnection(session), changed)
        for kind, (verb, _) in self._verbs.items():
            places = [place for place, write in enumerate(writes) if type(write) is kind]
            if places:
                found = await verb(SessionConnection(session), [writes[place] for place in places])
                for place, result in zip(places, found, strict=True):
                    results[place] = result
        return results

    async def _apply(
        self,
        session: AsyncSession,
        _call: Call,
        verb: Callable[[Connection, Sequence[Any]], Awaitable[list[Any]]],
        writes: Sequence[Any],
    ) -> list[Any]:
        """Run a verb for a batch in a transaction, and return a result for each of its writes."""
        return await verb(SessionConnection(session), writes)

    def _keys(self, keyed: KeyedWrite) -> Collection[Hashable]:
        return [keyed.key.scope, *self._keys_of(keyed.write)]

    def _keys_of(self, write: Any) -> Collection[Hashable]:
        """Return what no two writes of one batch may have in common."""
        _, keys = self._verbs[type(write)]
        return keys(write)

    def _keys_of_patch(self, patch: Patch) -> Collection[Hashable]:
        return [patch.id, *self.table.unique_values(patch.values)] if self.table.unique else (patch.id,)


def _keys_of_deletion(deletion: Deletion) -> Collection[Hashable]:
    return (deletion.id,)
