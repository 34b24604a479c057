"""SQLite, by aiosqlite."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import aiosqlite
from sqlalchemy import URL, NullPool, StaticPool, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from db.engines.advisory_locks import Lock
from db.engines.converters import SQLiteConverters
from db.engines.database import (
    HIDE_PARAMETERS,
    BatchConnection,
    Database,
    Locks,
    Options,
    translate_error,
    translate_errors,
)
from db.engines.limiter import ConcurrencyLimiter
from db.engines.row_parameters import JsonEachRows
from db.engines.statement import Source, Statement
from db.errors import Conflict

READ_ONLY = "read_only_transaction"  # an execution option of connections whose transaction does not write


class SQLite(Database):
    """SQLite by aiosqlite: many readers and one writer; in memory, one connection for all of them."""

    row_parameter = JsonEachRows
    can_disconnect = False
    read_options: Mapping[str, Any] = {READ_ONLY: True}
    auto_migrate = True  # no other service uses the file
    product = "SQLite"
    version_min = (3, 35, 0)  # RETURNING
    has_roles = False
    has_lateral = False
    runs_in_process = True
    has_statistics = False
    row_count = "SELECT (SELECT max(rowid) FROM {0}) - (SELECT min(rowid) FROM {0}) + 1"

    def __init__(self, url: URL, options: Options) -> None:
        self.check_version(sqlite3.sqlite_version_info)  # the system's library, that Python was linked with
        # Statements commit by themselves; a transaction begins explicitly, below.
        arguments = {"isolation_level": None, "async_creator_fn": _open_file}
        make = partial(create_async_engine, url, connect_args=arguments, hide_parameters=HIDE_PARAMETERS)
        writer = ConcurrencyLimiter(1, options.pool_wait_ms)
        if url.database in {None, "", ":memory:"}:
            engine = batchers = make(poolclass=StaticPool)
            locks = Locks(writer, writer)
        else:
            engine = make(pool_size=options.pool_size, max_overflow=0)
            batchers = make(poolclass=NullPool)
            readers = max(1, options.pool_size - 1)  # one of the pool's connections is the writer's
            locks = Locks(writer, ConcurrencyLimiter(readers, options.pool_wait_ms))
        for one in {engine, batchers}:
            event.listen(one.sync_engine, "connect", self._configure)
            event.listen(one.sync_engine, "begin", _begin)
        super().__init__(engine, options, locks)
        self._batchers = batchers
        self._converters = SQLiteConverters(engine.dialect)

    def _configure(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {self.options.statement_timeout_ms}")
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @asynccontextmanager
    async def migration(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that no other migration runs beside; commit it at the end.

        Foreign keys are checked then: a migration rebuilds a table by dropping it, also one that others refer to
        (sqlite.org/lang_altertable.html, section 7). Raise Conflict if one refers to nothing.
        """
        async with self.locks.to_write, self.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("PRAGMA foreign_keys = OFF")  # inside a transaction it would do nothing
            try:
                async with connection.begin():
                    yield connection
                    if broken := (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all():
                        raise Conflict(f"rows would refer to nothing: {broken[:3]}")
            finally:
                with suppress(ValueError):  # it was closed, as the task was cancelled
                    await driver.execute("PRAGMA foreign_keys = ON")

    def statement(self, source: Source) -> Statement:
        """Return a statement, to be compiled when it runs first."""
        return Statement(source, self.engine.dialect, self._converters)

    async def check_pool(self) -> None:
        """Do nothing: a file has as many connections as are opened."""

    async def limit(self, session: AsyncSession, timeout_ms: int) -> None:
        """Do nothing: SQLite has no such limit."""

    async def try_lock(self, session: AsyncSession, locks: Sequence[Lock]) -> list[Collection[int] | None]:  # noqa: ARG002
        """Return None for each lock: no other transaction writes."""
        return [None for _ in locks]

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        with translate_errors():
            connection = await self._batchers.connect()
        async with aclosing(connection):
            yield (await connection.get_raw_connection()).driver_connection

    async def _disconnect(self) -> None:
        await super()._disconnect()
        await self._batchers.dispose()

    async def _wrap(self, driver: Any, *, generic_plan: bool) -> BatchConnection:  # noqa: ARG002 - it plans when it prepares
        writer = self.locks.to_write
        to_read = writer if self.locks.to_read is writer else nullcontext()
        return SQLiteConnection(driver, writer, to_read, self.options.statement_timeout_ms / 1000)


async def _open_file(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """Open a SQLite file; if that fails, wait for aiosqlite's thread to end: it would log that the loop is closed."""
    connection = aiosqlite.connect(*arguments, **options)
    thread = connection._thread  # noqa: SLF001 - there is no other way to it
    thread.daemon = True  # as SQLAlchemy sets it
    try:
        return await connection
    except BaseException:
        await asyncio.to_thread(thread.join)
        raise


def _begin(connection: Any) -> None:
    # A transaction that starts as a reader cannot wait for the writer's lock later: it fails at once.
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


class SQLiteConnection:
    """A connection of aiosqlite: one hop to its thread for each statement."""

    autocommits = True
    closed = False

    def __init__(
        self,
        driver: aiosqlite.Connection,
        to_write: AbstractAsyncContextManager[object],
        to_read: AbstractAsyncContextManager[object],
        timeout_s: float,
    ) -> None:
        self._driver = driver
        self._to_write, self._to_read = to_write, to_read
        self._timeout_s = timeout_s

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Do nothing: a connection to a file is never lost."""

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, Any],
        token: bytes | None = None,  # noqa: ARG002 - the outcome of a write is always known
    ) -> list[Any]:
        """Run a statement and return its rows. Raises TimedOut once the time limit has interrupted it."""
        arguments = statement.arguments(values)
        async with self._to_write if statement.writes else self._to_read:
            loop = asyncio.get_running_loop()
            limit = loop.call_later(self._timeout_s, lambda: loop.create_task(self._driver.interrupt()))
            try:
                rows = await self._driver.execute_fetchall(statement.sql, arguments)
            except aiosqlite.Error as error:
                raise translate_error(error, lost=False, wrote=statement.writes) from error
            finally:
                limit.cancel()
        return statement.read(list(rows))
