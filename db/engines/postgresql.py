"""PostgreSQL, by asyncpg."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID  # takes a fraction of the time of the standard library's
from sqlalchemy import URL, ExceptionContext, UpdateBase, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from db.batching.batch import TOKEN_BYTES
from db.batching.connection_sets import ConnectionSets
from db.engines.advisory_locks import AdvisoryLocks, Lock
from db.engines.commit_records import FIND, with_commit_record
from db.engines.connector import Connector
from db.engines.converters import AsyncpgConverters
from db.engines.database import (
    DRIVER_ERRORS,
    HIDE_PARAMETERS,
    BatchConnection,
    Database,
    Locks,
    Options,
    is_lost,
    translate_error,
    translate_errors,
)
from db.engines.failover import Driver, HostSelector
from db.engines.limiter import ConcurrencyLimiter
from db.engines.pooled_connections import PooledConnections, TransactionPool
from db.engines.replication import WARNING_SETTINGS
from db.engines.row_parameters import UnnestRows
from db.engines.statement import Source, Statement
from db.engines.timestamps import timestamp_of
from db.engines.url import hosts_of
from db.engines.write import Write
from db.errors import (
    ConnectionLost,
    DuplicateWrite,
    InvalidValue,
    OutcomeUnknown,
    TimedOut,
    Unavailable,
)
from db.observer import Event, Observer

APPLICATION_NAME = "items-service"
# Otherwise PostgreSQL plans small batches anew each time: it takes an array of unknown size for one of ten. And the
# plan that is best for an empty table, to read all of it, is kept while the table grows.
GENERIC_PLAN = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
TARGET = "target_session_attrs"
# The last of these is new in version 16.
CONNECTIONS_MAX = """
    SELECT least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0),
        nullif(datconnlimit, -1), CASE WHEN NOT rolsuper THEN nullif(rolconnlimit, -1) END)
    FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = session_user
"""
SCHEMA_LOCK = 0x6974656D73  # an arbitrary number, which no other program locks


class PostgreSQL(Database):
    """PostgreSQL by asyncpg: batchers own connections, transactions take them from a pool."""

    row_parameter = UnnestRows
    can_disconnect = True
    read_options: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ"}
    auto_migrate = False  # several instances may share it: a step of the deployment does it
    product = "PostgreSQL"
    version_min = (12,)  # plan_cache_mode
    has_roles = True
    has_lateral = True
    runs_in_process = False
    has_statistics = True
    row_count = "SELECT pg_stat_get_live_tuples('{0}'::regclass)"  # since the statistics were reset
    target = "read-write"  # of the URL's hosts, unless it says otherwise
    _sqlalchemy_arguments: Mapping[str, Any] = {}  # arguments that asyncpg.connect does not take

    def __init__(self, url: URL, options: Options) -> None:
        target = str(url.query.get(TARGET, self.target))
        connector = Connector(
            options.connect_timeout_ms / 1000, options.reread_credentials, direct=not options.pgbouncer
        )
        self._primary = HostSelector(hosts_of(url), target, connector, options)
        # The pool alone would let every transaction wait, and refuse it only after that.
        limiter = ConcurrencyLimiter(options.pool_size, options.pool_wait_ms)
        self._pooled = PooledConnections(self._primary, limiter)
        arguments = self._arguments(options)
        url = url.difference_update_query(["host", "port", TARGET])
        engine = create_async_engine(
            url,
            connect_args={**arguments, **self._sqlalchemy_arguments, "async_creator_fn": self._pooled.connect},
            hide_parameters=HIDE_PARAMETERS,
            poolclass=TransactionPool,
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.pool_wait_ms / 1000,
            pool_use_lifo=True,
        )
        self._connect_arguments = {**engine.dialect.create_connect_args(url)[1], **arguments}
        self._advisory_locks = AdvisoryLocks()
        self._pooled.listen(engine)
        event.listen(engine.sync_engine, "handle_error", self._check_lost)
        super().__init__(engine, options, Locks(limiter, limiter))

    @asynccontextmanager
    async def migration(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that no other migration runs beside; commit it at the end."""
        async with self.locks.to_write, self.engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
            yield connection

    async def limit(self, session: AsyncSession, timeout_ms: int) -> None:
        """Set the time after which the database cancels a statement of this transaction."""
        await session.execute(text(f"SET LOCAL statement_timeout = {timeout_ms:d}"))

    async def try_lock(self, session: AsyncSession, locks: Sequence[Lock]) -> list[Collection[int] | None]:
        """Try to lock each number until the transaction ends; see Database."""
        return await self._advisory_locks.try_lock(session, locks)

    def statement(self, source: Source) -> Statement:
        """Return a statement, to be compiled when it runs first; in batchers, a write inserts its commit record."""
        if not isinstance(source, UpdateBase):
            return Statement(source, self.engine.dialect, AsyncpgConverters())
        return Write(source, self.engine.dialect, AsyncpgConverters(), for_batchers=with_commit_record(source))

    def _arguments(self, options: Options) -> dict[str, Any]:
        """Return the arguments of asyncpg.connect, except user, database and host."""
        return {
            # The database cancels first, so that the connection survives; this is for a database that does not respond.
            "command_timeout": (options.statement_timeout_ms or 3_600_000) / 1000 + 1,
            "server_settings": {
                "application_name": APPLICATION_NAME,
                "statement_timeout": str(options.statement_timeout_ms),
                # The locks of a transaction that its client left open must not stay.
                "idle_in_transaction_session_timeout": str(2 * options.statement_timeout_ms),
                "timezone": "UTC",
                **WARNING_SETTINGS,
            },
        }

    def share_connections(self, sets: ConnectionSets) -> None:
        """Take part in sharing what connections the server allows."""
        sets.add(self._pooled.give_back)
        self._pooled.request = sets.request

    async def check_pool(self) -> None:
        """Open the pool's first connection if it has none. Raises Unavailable if there can be none."""
        pool: Any = self.engine.sync_engine.pool
        if not (len(self._pooled) or pool.checkedout()):
            with translate_errors():
                async with self.engine.connect():
                    pass

    async def connections_max(self) -> int | None:
        """Return max_connections less those reserved, or a lower limit of the role or database. Raises Unavailable."""
        with translate_errors():
            async with self.engine.connect() as connection:
                return int(await connection.scalar(text(CONNECTIONS_MAX)) or 0)

    async def _disconnect(self) -> None:
        await self._primary.close()
        await super()._disconnect()

    def _check_lost(self, context: ExceptionContext) -> None:
        # SQLAlchemy does not know every error of a lost connection, and would keep the connection.
        if is_lost(context.original_exception):
            context.is_disconnect = True
        if context.connection is not None and not context.connection.invalidated:
            driver: Any = context.connection.connection.driver_connection
            self._primary.note(driver, context.original_exception)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Driver]:
        with translate_errors():
            driver = await self._primary.connect(**self._connect_arguments)
        try:
            yield driver
        finally:
            self._primary.discard(driver)

    async def _wrap(self, driver: Any, *, generic_plan: bool) -> BatchConnection:
        with translate_errors():
            await driver.set_builtin_type_codec("timestamptz", schema="pg_catalog", codec_name="int8")
            if generic_plan:
                await driver.execute("; ".join(f"SET {name} = {value}" for name, value in GENERIC_PLAN.items()))
        return PostgreSQLConnection(driver, self._primary, self.options.observer)


class PostgreSQLConnection:
    """A connection of asyncpg, whose own cache keeps statements prepared."""

    autocommits = True

    def __init__(self, driver: Driver, primary: HostSelector, observer: Observer) -> None:
        self._driver = driver
        self._primary = primary
        self._observer = observer

    @property
    def closed(self) -> bool:
        """Whether the connection is lost, or its server is no longer the primary."""
        return not self._primary.is_usable(self._driver)

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback`, maybe more than once, when the connection is lost, or is not to be used any more."""
        self._primary.watch(self._driver, callback)

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Run a statement and return its rows; raise DuplicateWrite for a token that was committed before."""
        if not statement.writes:
            return statement.read(await self._run(statement.sql, statement.arguments(values), wrote=False))
        statement, values = statement.for_rows(values)
        key = UUID(token or token_bytes(TOKEN_BYTES))
        try:
            return statement.read(await self._run(statement.sql, statement.arguments(values, token=key), wrote=True))
        except (Unavailable, TimedOut, OutcomeUnknown):
            raise
        except Exception:
            # The conflict may be with the commit record, or the rows, of an earlier run that was committed.
            if not (found := await self._run(FIND, [key], wrote=True)):
                raise
        self._observer.happened(Event.FOUND_COMMITTED)
        ids, written_at = found[0]
        raise DuplicateWrite(ids, timestamp_of(written_at))

    async def _run(self, sql: str, arguments: list[Any], *, wrote: bool) -> list[Any]:
        if self.closed:
            raise ConnectionLost("the connection to the database was lost")
        try:
            rows: list[Any] = await self._driver.fetch(sql, *arguments)
            if wrote:
                self._driver.check_confirmed()
            elif self.closed:
                raise ConnectionLost("another server has become the primary")
        except asyncpg.DataError as error:  # the driver's, before sending, as well as the server's
            raise InvalidValue(str(error)) from error
        except (*DRIVER_ERRORS, OSError) as error:
            lost = self._report(error)
            raise translate_error(error, lost=lost, wrote=wrote) from error
        return rows

    def _report(self, error: BaseException) -> bool:
        """Report an error to the host selector, forget the connection if it is lost, and return whether it is."""
        self._primary.note(self._driver, error)
        lost = is_lost(error) or self._driver.is_closed()
        if lost:
            self._primary.forget(self._driver)
        return lost
