"""Items: every verb for one item, and for many at once; results are in the order of the arguments.

The verbs for one item share a statement with concurrent requests for the same verb: a batcher runs them as one batch.
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
from db.tables.statements import ItemDeletion, ItemRow, ItemStatements, ItemUpdate, all_or_nothing, item_id
from db.transactions.idempotency import Idempotency, IdempotencyKey, SessionConnection
from db.transactions.runner import run_in_transaction

__all__ = ["IdempotentItems", "ItemDeletion", "ItemRow", "ItemUpdate", "Items"]

T = TypeVar("T")
U = TypeVar("U")

# A list may take long, and a second connection serves shorter ones meanwhile. While one bulk write waits for the disk,
# the next ones are executed.
LIST_CONNECTIONS, BULK_CONNECTIONS = 2, 4

BulkOperation = Callable[[Connection, bytes], Awaitable[Any]]


class Items(Generic[T]):
    """The verbs of items. An item is returned as `make_item(*columns)`, in the order of the columns of the table.

    Every verb raises the errors of db.errors. If `coalesce` is off, every request is a batch of one, and each verb has
    `connections` connections.
    """

    def __init__(
        self, database: Database, make_item: Callable[..., T], *, limits: Limits, coalesce: bool, connections: int
    ) -> None:
        self._database = database
        self._statements = statements = ItemStatements(database, make_item)
        self._deadline: float | None = None  # of one request; None: the batcher's own limit, which needs no timer
        self._timeout_s = limits.timeout_ms / 1000
        single = limits._replace(batch_size_max=1)
        bounds, connections = (limits, 1) if coalesce else (single, connections)
        list_connections, bulk_connections = max(connections, LIST_CONNECTIONS), max(connections, BULK_CONNECTIONS)
        connect = partial(database.connect, generic_plan=True)
        self._get_batcher = Batcher(
            "items get", connect, self._get_batch, bounds, connections, deduplicate=coalesce, idempotent=True
        )
        self._page_batcher = Batcher(
            "items page",
            database.connect,
            self._page_batch,
            single,
            list_connections,
            deduplicate=coalesce,
            idempotent=True,
        )
        self._create_batcher = Batcher("items create", connect, statements.create, bounds, connections)
        self._update_batcher = Batcher(
            "items update", connect, statements.update, bounds, connections, unique_key=item_id
        )
        self._delete_batcher = Batcher(
            "items delete", connect, statements.delete, bounds, connections, unique_key=item_id
        )
        self._bulk_read_batcher = Batcher("items bulk read", connect, _run, single, bulk_connections, idempotent=True)
        self._bulk_write_batcher = Batcher("items bulk write", connect, _run, single, bulk_connections)
        self._idempotency = Idempotency(database)
        self._idempotent_create_batcher = Batcher(
            "items idempotent create", _no_connection, self._create_batch_once, bounds, connections, unique_key=_scope
        )

    @property
    def _batchers(self) -> "list[Batcher[Any, Any, Any]]":
        return [value for value in vars(self).values() if isinstance(value, Batcher)]

    async def __aenter__(self) -> Self:
        """Start all batchers at once, and wait for their first attempts to connect, whether they succeed or not."""
        try:
            await asyncio.gather(*(batcher.__aenter__() for batcher in self._batchers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Run the queued calls to their end, then disconnect."""
        await asyncio.gather(*(batcher.__aexit__() for batcher in self._batchers))

    def until(self, deadline: float = inf) -> Self:
        """Return these items with one deadline, by the loop's clock, for all steps of a request.

        It is the given one, but no later than the service's own time limit from now.
        """
        bounded = copy(self)
        bounded._deadline = min(deadline, self._effective_deadline())  # noqa: SLF001 - it is of this class
        return bounded

    def _effective_deadline(self) -> float:
        """Return the time, by the loop's clock, by which a verb that begins now ends."""
        now = asyncio.get_running_loop().time()
        return now + self._timeout_s if self._deadline is None else self._deadline

    def _remaining_s(self) -> float:
        return self._effective_deadline() - asyncio.get_running_loop().time()

    def with_idempotency_key(self, key: IdempotencyKey) -> "IdempotentItems[T]":
        """Return these items for one request with an idempotency key."""
        return IdempotentItems(self, key)

    def get(self, id: int) -> Awaitable[T]:
        """Return an item. Raise NotFound if it does not exist."""
        return self._get_batcher.submit(id, self._deadline)

    def create(self, row: ItemRow) -> Awaitable[T]:
        """Create an item, and return it."""
        return self._create_batcher.submit(row, self._deadline)

    def update(self, update: ItemUpdate) -> Awaitable[T]:
        """Update an item, and return it. Raise NotFound or VersionMismatch."""
        return self._update_batcher.submit(update, self._deadline)

    def delete(self, deletion: ItemDeletion) -> Awaitable[None]:
        """Delete an item. Raise NotFound or VersionMismatch."""
        return self._delete_batcher.submit(deletion, self._deadline)

    def page(self, query: Query) -> Awaitable[Page[T]]:
        """Return a page of the list."""
        return self._page_batcher.submit(query, self._deadline)

    async def get_many(self, ids: Sequence[int]) -> list[T]:
        """Return the items that exist, in the order of `ids`."""
        found = await self._bulk_read_batcher.submit(
            lambda connection, _: self._statements.get(connection, ids), self._deadline
        )
        return [item for item in found if not isinstance(item, NotFound)]

    async def create_many(self, rows: Sequence[ItemRow]) -> list[T]:
        """Create items, all or none, and return them."""
        return all_or_nothing(await self._bulk_write(partial(self._statements.create, rows=rows)))

    async def update_many(self, updates: Sequence[ItemUpdate]) -> list[T]:
        """Update items, all or none, each id at most once, and return them. Raise NotFound or VersionMismatch."""

        async def work(session: AsyncSession) -> list[T]:
            return all_or_nothing(await self._statements.update(SessionConnection(session), updates))

        return await run_in_transaction(self._database, work, self._remaining_s())

    async def delete_many(self, ids: Sequence[int]) -> list[int]:
        """Delete the items that exist, and return their ids in the order of `ids`."""
        errors = await self._bulk_write(partial(self._statements.delete, deletions=_deletions(ids)))
        return _deleted_ids(ids, errors)

    async def _bulk_write(self, verb: Callable[..., Awaitable[list[Any]]]) -> list[Any]:
        results: list[Any] = await self._bulk_write_batcher.submit(
            lambda connection, token: verb(connection, token=token), self._deadline
        )
        return results

    def _get_batch(self, connection: Connection, ids: Sequence[int], _token: bytes) -> Awaitable[list[T | NotFound]]:
        return self._statements.get(connection, ids)

    async def _page_batch(self, connection: Connection, queries: Sequence[Query], _token: bytes) -> list[Page[T]]:
        return [await self._statements.page(connection, query) for query in queries]

    async def _create_batch_once(
        self, _connection: "_NoConnection", members: "Sequence[IdempotentCreate]", _token: bytes
    ) -> list[T | Exception]:
        """Create the items of new keys whose deadline has not passed, in one transaction; return the rest's errors."""
        clock = asyncio.get_running_loop().time

        async def work(session: AsyncSession) -> list[T | Exception]:
            earlier = await self._idempotency.find(session, [member.key for member in members])
            # This may be a retry: a client whose deadline has passed was sent OutcomeUnknown, and must not have it
            # written now.
            late = [TimedOut("the deadline has passed") if member.deadline <= clock() else None for member in members]
            errors = [found or expired for found, expired in zip(earlier, late, strict=True)]
            new = [member for member, error in zip(members, errors, strict=True) if error is None]
            created: dict[IdempotencyKey, Any] = {}
            if new:
                rows = await self._statements.create(SessionConnection(session), [member.row for member in new])
                created = {member.key: row for member, row in zip(new, rows, strict=True)}
                await self._idempotency.save(session, created)
            return [error or created[member.key] for member, error in zip(members, errors, strict=True)]

        return await run_in_transaction(self._database, work, max(member.deadline for member in members) - clock())


class IdempotentCreate(NamedTuple):
    """An item to create, the idempotency key of its request, and the request's deadline by the loop's clock."""

    row: ItemRow
    key: IdempotencyKey
    deadline: float


class IdempotentItems(Items[T]):
    """The verbs of items for one idempotency key: a write happens once, and its response is stored with it.

    A write raises ReplayedResponse if it happened before, KeyInUse while it is running, and KeyReused if the key was
    used for another request. Reads are those of Items, except `get`, which a write may depend on.
    """

    def __init__(self, items: Items[T], key: IdempotencyKey) -> None:
        vars(self).update(vars(items.until()))
        self._key = key

    async def get(self, id: int) -> T:
        """Return an item that the write depends on. Raise NotFound, or an error of the key, as a write."""
        await self._idempotency.check(self._key, self._remaining_s())
        return await super().get(id)

    async def create(self, row: ItemRow) -> T:
        """Create an item, in one transaction with concurrent requests that create one, and return it."""
        deadline = self._effective_deadline()
        with self._idempotency.running(self._key.scope):
            item: T = await self._idempotent_create_batcher.submit(IdempotentCreate(row, self._key, deadline), deadline)
            return item

    async def update(self, update: ItemUpdate) -> T:
        """Update an item, and return it. Raise NotFound or VersionMismatch."""
        return await self._run_once(lambda connection: self._statements.update(connection, [update]), _only_result)

    async def delete(self, deletion: ItemDeletion) -> None:
        """Delete an item. Raise NotFound or VersionMismatch."""
        await self._run_once(lambda connection: self._statements.delete(connection, [deletion]), _only_result)

    async def create_many(self, rows: Sequence[ItemRow]) -> list[T]:
        """Create items, all or none, and return them."""
        return await self._run_once(lambda connection: self._statements.create(connection, rows), all_or_nothing)

    async def update_many(self, updates: Sequence[ItemUpdate]) -> list[T]:
        """Update items, all or none, each id at most once, and return them. Raise NotFound or VersionMismatch."""
        return await self._run_once(lambda connection: self._statements.update(connection, updates), all_or_nothing)

    async def delete_many(self, ids: Sequence[int]) -> list[int]:
        """Delete the items that exist, and return their ids in the order of `ids`."""
        return await self._run_once(
            lambda connection: self._statements.delete(connection, _deletions(ids)), partial(_deleted_ids, ids)
        )

    async def _run_once(
        self, verb: Callable[[Connection], Awaitable[list[Any]]], reduce: Callable[[list[Any]], U]
    ) -> U:
        """Run a verb unless it was run with this key before, and return what `reduce` makes of its results."""

        async def work(connection: Connection) -> U:
            return reduce(await verb(connection))

        return await self._idempotency.run_once(self._key, work, self._remaining_s())


async def _run(connection: Connection, operations: Sequence[BulkOperation], token: bytes) -> list[Any]:
    return [await operation(connection, token) for operation in operations]


class _NoConnection:
    """A stand-in for the connection of a batcher whose batches are transactions, which take theirs from the pool."""

    closed = False

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: it is never lost."""


@asynccontextmanager
async def _no_connection() -> AsyncIterator[_NoConnection]:
    yield _NoConnection()


def _scope(member: IdempotentCreate) -> str:
    return member.key.scope


def _deletions(ids: Sequence[int]) -> list[ItemDeletion]:
    return [ItemDeletion(id) for id in ids]


def _deleted_ids(ids: Sequence[int], errors: Sequence[Exception | None]) -> list[int]:
    return [id for id, error in zip(ids, errors, strict=True) if error is None]


def _only_result(results: Sequence[U | Exception]) -> U:
    """Return the result of a batch of one, or raise it if it is an exception."""
    [result] = all_or_nothing(results)
    return result
