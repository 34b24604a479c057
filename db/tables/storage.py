"""What the stores of one worker share: the database, its bounded set of connections, and the limits of batches."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import Any, Self

from db.batching.batcher import Batcher
from db.batching.connection_sets import ConnectionSets
from db.batching.connections import BatchConnections
from db.batching.queue import Limits
from db.engines.database import BatchConnection, Database
from db.transactions.idempotency import Idempotency

# A list with filters may take long, and a second connection serves shorter ones meanwhile; counts have one of the two.
LIST_CONNECTIONS = 2


class Storage:
    """The database, and the connections that the batchers of all stores borrow; it is entered to connect.

    Of `batch_connections`, LIST_CONNECTIONS are for lists whose statements are planned anew for each range; pages that
    batched_pages.py includes are planned once, as reads by id are, and share their connections. Writes of several
    statements are transactions, and take their connections from the database's pool.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        coalesce: bool,
        batch_connections: int,
        idempotency_keys_max: int,
    ) -> None:
        self.database = database
        self.limits = limits
        self.coalesce = coalesce
        pool_size = database.options.pool_size
        connect = partial(database.connect, generic_plan=True)
        self._sets = sets = ConnectionSets(database.options.latest_primary)
        self.connections = BatchConnections[BatchConnection](
            "batch connections", connect, batch_connections - LIST_CONNECTIONS, sets=sets
        )
        self.list_connections = BatchConnections[BatchConnection](
            "list connections", database.connect, LIST_CONNECTIONS, sets=sets
        )
        database.share_connections(sets)
        self.transactions = BatchConnections(
            "transactions", lambda: nullcontext(TransactionSlot()), pool_size, slow_max=pool_size
        )
        self.idempotency = Idempotency(database, idempotency_keys_max)
        self.batchers: list[Batcher[Any, Any, Any]] = []
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect, and wait for the first attempts, whether they succeed or not."""
        async with AsyncExitStack() as opened:
            if self.database.can_disconnect:  # a file has as many connections as are opened
                opened.enter_context(self._sets.answering())
            async with asyncio.TaskGroup() as entering:  # a database that does not respond is waited for once
                for connections in (self.connections, self.list_connections, self.transactions):
                    entering.create_task(opened.enter_async_context(connections))
            self._opened = opened.pop_all()
        return self

    def batcher(self, name: str, run: Any, members_max: int | None = None, **options: Any) -> Batcher[Any, Any, Any]:
        """Return a batcher with these options; any that is missing is as for a batcher of single rows.

        Its batches have `members_max` members at most, if that is less than the setting; one, without coalescing.
        """
        size, in_flight = self.limits.batch_size_max, 1
        if not self.coalesce:
            size, in_flight = 1, self.connections.size
        limits = self.limits._replace(batch_size_max=min(size, members_max or size))
        options = {"connections": self.connections, "limits": limits, "in_flight_max": in_flight, **options}
        batcher = Batcher(name, run=run, observer=self.database.options.observer.batches_of(name), **options)
        self.batchers.append(batcher)
        return batcher

    async def check_connections(self) -> None:
        """Raise Unavailable if lists or transactions can have no connection; reads by id show it themselves."""
        if self.list_connections.refusal is not None:
            raise self.list_connections.refusal.with_traceback(None)
        await self.database.check_pool()

    async def __aexit__(self, *_: object) -> None:
        """Run the queued calls to their end, then disconnect."""
        await self._opened.aclose()


class TransactionSlot:
    """The place of a connection for a batch that is a transaction, which takes its connection from the pool."""

    closed = False

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: it is never lost."""
