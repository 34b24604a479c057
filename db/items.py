"""Items: every verb takes a batch, and gives a batch in the same order.

A single item is a batch of one, which shares its statement with whoever waits beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from functools import partial
from math import inf
from typing import Any, Generic, NamedTuple, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.batcher import Batcher
from db.batching.queue import Limits
from db.engines.database import Connection, Database
from db.errors import NotFound, TimedOut
from db.tables.pagination import Page, Query
from db.tables.statements import Change, ItemSets, NewItem, Removal, all_or_nothing, key
from db.transactions.idempotency import Idempotency, IdempotencyKey, SessionConnection
from db.transactions.runner import run_in_transaction

__all__ = ["Change", "Items", "KeyedItems", "NewItem", "Removal"]

T = TypeVar("T")
U = TypeVar("U")

# What may take long leaves a second connection for what does not. While a batch waits for the disk, others are written.
LIST_CONNECTIONS, BULK_CONNECTIONS = 2, 4

Bulk = Callable[[Connection, bytes], Awaitable[Any]]


class Items(Generic[T]):
    """The verbs. A row is handed out as `shape(*columns)`, in the order of the columns of the table.

    All of them raise the words of db.errors. With `coalesce` off every request is a batch of one, run on one of
    `connections` for each verb.
    """

    def __init__(
        self, database: Database, shape: Callable[..., T], *, limits: Limits, coalesce: bool, connections: int
    ) -> None:
        self._database = database
        self._sets = sets = ItemSets(database, shape)
        self._deadline: float | None = None  # of one request; None: the batcher's own limit, which needs no timer
        self._timeout_s = limits.timeout_ms / 1000
        alone = limits._replace(batch_size_max=1)
        bounds, several = (limits, 1) if coalesce else (alone, connections)
        lists, bulk = max(several, LIST_CONNECTIONS), max(several, BULK_CONNECTIONS)
        connect = partial(database.connect, generic_plan=True)
        self._reads = Batcher("read", connect, self._get, bounds, several, deduplicate=coalesce, idempotent=True)
        self._lists = Batcher("list", database.connect, self._page, alone, lists, deduplicate=coalesce, idempotent=True)
        self._adds = Batcher("add", connect, sets.add, bounds, several)
        self._changes = Batcher("change", connect, sets.change, bounds, several, unique_key=key)
        self._removals = Batcher("remove", connect, sets.remove, bounds, several, unique_key=key)
        self._bulk_reads = Batcher("bulk read", connect, _run, alone, bulk, idempotent=True)
        self._bulk_writes = Batcher("bulk write", connect, _run, alone, bulk)
        self._idempotency = Idempotency(database)
        self._keyed_adds = Batcher("keyed add", _nothing, self._add_each, bounds, several, unique_key=_scope)

    @property
    def _batchers(self) -> "list[Batcher[Any, Any, Any]]":
        return [value for value in vars(self).values() if isinstance(value, Batcher)]

    async def __aenter__(self) -> Self:
        """Connect, all batchers at once, and wait for the first attempts, whether they succeed or not."""
        try:
            await asyncio.gather(*(batcher.__aenter__() for batcher in self._batchers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answer what is queued, then disconnect."""
        await asyncio.gather(*(batcher.__aexit__() for batcher in self._batchers))

    def until(self, deadline: float = inf) -> Self:
        """Return the same items with one deadline, by the loop's clock, for all steps of a request.

        It is the given one, but no later than the service's own time limit from now.
        """
        bounded = copy(self)
        bounded._deadline = min(deadline, self._effective_deadline())  # noqa: SLF001 - it is one of us
        return bounded

    def _effective_deadline(self) -> float:
        """Return the moment, by the loop's clock, by which what begins now is answered."""
        now = asyncio.get_running_loop().time()
        return now + self._timeout_s if self._deadline is None else self._deadline

    def _left_s(self) -> float:
        return self._effective_deadline() - asyncio.get_running_loop().time()

    def keyed(self, claim: IdempotencyKey) -> "KeyedItems[T]":
        """Return the same items to a caller who may repeat a write."""
        return KeyedItems(self, claim)

    def get_one(self, id: int) -> Awaitable[T]:
        """Read one item. Raises NotFound."""
        return self._reads.submit(id, self._deadline)

    def add_one(self, row: NewItem) -> Awaitable[T]:
        """Add one item."""
        return self._adds.submit(row, self._deadline)

    def change_one(self, change: Change) -> Awaitable[T]:
        """Change one item. Raises NotFound, Stale."""
        return self._changes.submit(change, self._deadline)

    def remove_one(self, removal: Removal) -> Awaitable[None]:
        """Remove one item. Raises NotFound, Stale."""
        return self._removals.submit(removal, self._deadline)

    def page(self, query: Query) -> Awaitable[Page[T]]:
        """Read a page of the list."""
        return self._lists.submit(query, self._deadline)

    async def get(self, ids: Sequence[int]) -> list[T]:
        """Read the items that exist, in the order of their ids."""
        found = await self._bulk_reads.submit(lambda connection, _: self._sets.get(connection, ids), self._deadline)
        return [item for item in found if not isinstance(item, NotFound)]

    async def add(self, rows: Sequence[NewItem]) -> list[T]:
        """Add all or none."""
        return all_or_nothing(await self._write(partial(self._sets.add, rows=rows)))

    async def change(self, changes: Sequence[Change]) -> list[T]:
        """Change all or none; no id may stand there twice. Raises NotFound, Stale."""

        async def work(session: AsyncSession) -> list[T]:
            return all_or_nothing(await self._sets.change(SessionConnection(session), changes))

        return await run_in_transaction(self._database, work, self._left_s())

    async def remove(self, ids: Sequence[int]) -> list[int]:
        """Remove those that exist, and give their ids in the order they were asked for."""
        return _gone(ids, await self._write(partial(self._sets.remove, removals=_removals(ids))))

    async def _write(self, work: Callable[..., Awaitable[list[Any]]]) -> list[Any]:
        written: list[Any] = await self._bulk_writes.submit(
            lambda connection, token: work(connection, token=token), self._deadline
        )
        return written

    def _get(self, connection: Connection, ids: Sequence[int], _token: bytes) -> Awaitable[list[T | NotFound]]:
        return self._sets.get(connection, ids)

    async def _page(self, connection: Connection, queries: Sequence[Query], _token: bytes) -> list[Page[T]]:
        return [await self._sets.page(connection, query) for query in queries]

    async def _add_each(
        self, _connection: "_Nothing", members: "Sequence[KeyedRow]", _token: bytes
    ) -> list[T | Exception]:
        """Add those that were not added before, and that somebody still waits for, in one transaction."""
        clock = asyncio.get_running_loop().time

        async def work(session: AsyncSession) -> list[T | Exception]:
            earlier = await self._idempotency.find(session, [member.claim for member in members])
            # This may be a late try: who was told that nobody knows must not have it written now.
            late = [TimedOut("nobody waits any more") if member.deadline <= clock() else None for member in members]
            earlier = [fault or gone for fault, gone in zip(earlier, late, strict=True)]
            new = [member for member, fault in zip(members, earlier, strict=True) if fault is None]
            added: dict[IdempotencyKey, Any] = {}
            if new:
                rows = await self._sets.add(SessionConnection(session), [member.row for member in new])
                added = {member.claim: row for member, row in zip(new, rows, strict=True)}
                await self._idempotency.save(session, added)
            return [fault or added[member.claim] for member, fault in zip(members, earlier, strict=True)]

        return await run_in_transaction(self._database, work, max(member.deadline for member in members) - clock())


class KeyedRow(NamedTuple):
    """A new item, under which key it is added, and until when, by the loop's clock."""

    row: NewItem
    claim: IdempotencyKey
    deadline: float


class KeyedItems(Items[T]):
    """The verbs for one caller's key: a write that was made before raises Replay, and KeyInUse while it is being made.

    Reads are as ever, but for the one item that a write may depend on.
    """

    def __init__(self, items: Items[T], claim: IdempotencyKey) -> None:
        vars(self).update(vars(items.until()))
        self._claim = claim

    async def get_one(self, id: int) -> T:
        """Read one item, to write it then. Raises NotFound."""
        await self._idempotency.check(self._claim, self._left_s())
        return await super().get_one(id)

    async def add_one(self, row: NewItem) -> T:
        """Add one item, in a transaction with others that wait."""
        deadline = self._effective_deadline()
        with self._idempotency.running(self._claim.scope):
            added: T = await self._keyed_adds.submit(KeyedRow(row, self._claim, deadline), deadline)
            return added

    async def change_one(self, change: Change) -> T:
        """Change one item. Raises NotFound, Stale."""
        return await self._once(lambda connection: self._sets.change(connection, [change]), _only)

    async def remove_one(self, removal: Removal) -> None:
        """Remove one item. Raises NotFound, Stale."""
        await self._once(lambda connection: self._sets.remove(connection, [removal]), _only)

    async def add(self, rows: Sequence[NewItem]) -> list[T]:
        """Add all or none."""
        return await self._once(lambda connection: self._sets.add(connection, rows), all_or_nothing)

    async def change(self, changes: Sequence[Change]) -> list[T]:
        """Change all or none; no id may stand there twice. Raises NotFound, Stale."""
        return await self._once(lambda connection: self._sets.change(connection, changes), all_or_nothing)

    async def remove(self, ids: Sequence[int]) -> list[int]:
        """Remove those that exist, and give their ids in the order they were asked for."""
        return await self._once(lambda connection: self._sets.remove(connection, _removals(ids)), partial(_gone, ids))

    async def _once(self, verb: Callable[[Connection], Awaitable[list[Any]]], result: Callable[[list[Any]], U]) -> U:
        """Do a verb once, and answer with what its results come to."""

        async def work(connection: Connection) -> U:
            return result(await verb(connection))

        return await self._idempotency.run_once(self._claim, work, self._left_s())


async def _run(connection: Connection, works: Sequence[Bulk], token: bytes) -> list[Any]:
    return [await work(connection, token) for work in works]


class _Nothing:
    """The connection of a batcher whose batches are transactions, which take theirs from the pool."""

    closed = False

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: it is never lost."""


@asynccontextmanager
async def _nothing() -> AsyncIterator[_Nothing]:
    yield _Nothing()


def _scope(member: KeyedRow) -> str:
    return member.claim.scope


def _removals(ids: Sequence[int]) -> list[Removal]:
    return [Removal(id) for id in ids]


def _gone(ids: Sequence[int], reasons: Sequence[Exception | None]) -> list[int]:
    return [id for id, reason in zip(ids, reasons, strict=True) if reason is None]


def _only(results: Sequence[U | Exception]) -> U:
    """Return the result of a batch of one."""
    [result] = all_or_nothing(results)
    return result
