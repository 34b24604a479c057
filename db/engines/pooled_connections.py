"""The connections of the pool of transactions: how many are open, and which of them can be given back.

SQLAlchemy's pool counts a connection that was lost like one that is open, until it is used the next time.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import AsyncAdaptedQueuePool, event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engines.failover import Driver, HostSelector
from db.engines.limiter import ConcurrencyLimiter
from db.errors import TooManyConnections

# Until what was asked for is closed: by a set of this worker at once, by another worker within a connection set's tick.
GIVEN_BACK_DELAYS_S = (0.05, 0.1, 0.2, 0.4)


class TransactionPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool, which would keep the place of a connection that could not be opened, and try that one next.

    It would try none of those that are open then (findings/lost-place-first.sh). Nothing waits for a place:
    transactions are limited before.
    """

    def _do_return_conn(self, record: Any) -> None:
        if record.dbapi_connection is None:
            self._dec_overflow()  # one may be opened in its place
        else:
            super()._do_return_conn(record)


class PooledConnections:
    """Opens the pool's connections, and gives all but one back where the database allows few."""

    def __init__(self, primary: HostSelector, limiter: ConcurrencyLimiter) -> None:
        self._primary = primary
        self._limiter = limiter
        self._open: set[Driver] = set()
        self._idle: dict[Driver, None] = {}  # of those; the one that is used next is the last
        self._given_back: set[Driver] = set()  # which the pool has not noticed yet
        self._to_give_back = 0  # as soon as they are idle
        self._is_asking = False
        self.request: Callable[[], bool] = lambda: False  # asks for a connection of what has several

    def listen(self, engine: AsyncEngine) -> None:
        """Follow what an engine's pool does with its connections."""
        event.listen(engine.sync_engine, "checkout", self._check_out)
        event.listen(engine.sync_engine, "checkin", self._check_in)

    def __len__(self) -> int:
        return len(self._open)

    async def connect(self, **arguments: Any) -> Driver:
        """Return a connection. If the server allows no more, transactions wait for those that there are.

        Without any, one is asked for, for less than a second. Raises TooManyConnections and the driver's errors.
        """
        driver = await self._connect_or_ask(arguments)
        self._open.add(driver)
        driver.add_termination_listener(self._forget)
        return driver

    def give_back(self) -> bool:
        """Close a connection soon; return whether there is one to spare."""
        if len(self._open) - self._to_give_back <= 1:
            return False
        self._limiter.shrink()
        if self._idle:
            self._close(next(iter(self._idle)))
        else:
            self._to_give_back += 1
        return True

    async def _connect_or_ask(self, arguments: dict[str, Any]) -> Driver:
        asks = False
        try:
            for delay_s in GIVEN_BACK_DELAYS_S:
                try:
                    return await self._primary.connect(**arguments)
                except TooManyConnections:
                    if self._open or (self._is_asking and not asks):
                        self._limiter.shrink()
                        raise
                asks = self._is_asking = True  # one transaction at a time does
                self.request()
                await asyncio.sleep(delay_s)
            return await self._primary.connect(**arguments)
        finally:
            if asks:
                self._is_asking = False

    def _close(self, driver: Driver) -> None:
        self._given_back.add(driver)
        self._primary.discard(driver)
        self._forget(driver)

    def _forget(self, driver: Any) -> None:
        self._open.discard(driver)
        self._idle.pop(driver, None)
        self._to_give_back = min(self._to_give_back, max(0, len(self._open) - 1))

    def _check_out(self, connection: Any, _record: object, _proxy: object) -> None:
        driver: Driver = connection.driver_connection
        self._idle.pop(driver, None)
        if driver in self._given_back:
            self._given_back.discard(driver)
            raise DisconnectionError  # this one is replaced
        # A connection known to be lost is replaced, with the whole pool; a ping would cost a round trip.
        if not self._primary.is_usable(driver):
            raise InvalidatePoolError

    def _check_in(self, connection: Any, _record: object) -> None:
        driver = connection and connection.driver_connection  # None: it was lost
        if driver not in self._open:
            return
        if self._to_give_back:
            self._to_give_back -= 1
            self._close(driver)
        else:
            self._idle[driver] = None
