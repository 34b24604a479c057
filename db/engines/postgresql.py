"""PostgreSQL by asyncpg."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID  # it takes a fraction of the time that the standard library's does
from sqlalchemy import URL, BigInteger, ExceptionContext, Select, UpdateBase, event, func, select, text
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.types import TypeEngine

from db.batching.batch import TOKEN_BYTES
from db.engines.commit_records import FIND, with_commit_record
from db.engines.database import DRIVER_ERRORS, Connection, Database, Locks, Options, translate_error, translate_errors
from db.engines.failover import Driver, HostSelector
from db.engines.limiter import ConcurrencyLimiter
from db.engines.replication import HEAR_WARNINGS
from db.engines.row_parameters import ORDINALITY, RowParameter, UnnestRows
from db.engines.statement import Statement, remembered
from db.engines.url import hosts_of
from db.errors import (
    ConnectionLost,
    DuplicateWrite,
    InvalidValue,
    OutcomeUnknown,
    TimedOut,
    Unavailable,
    is_connection_lost,
)

APPLICATION_NAME = "items-service"
# Else PostgreSQL plans small batches anew each time: it takes one of unknown size for one of ten. And the plan that is
# best for an empty table, to read all of it, is kept while the table grows.
GENERIC_PLAN = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # from which PostgreSQL counts
TARGET = "target_session_attrs"
SCHEMA_LOCK = 0x6974656D73  # any number will do that nobody else locks


class PostgreSQL(Database):
    """PostgreSQL by asyncpg: batchers own connections, transactions take them from a pool."""

    native_types = True
    can_disconnect = True
    auto_migrate = False  # several instances may share it: that is a deployment's step
    has_statistics = True
    target = "read-write"  # of the URL's hosts, unless it says otherwise
    _sqlalchemy_arguments: Mapping[str, Any] = {}  # that asyncpg.connect does not take

    def __init__(self, url: URL, options: Options) -> None:
        target = str(url.query.get(TARGET, self.target))
        self._primary = HostSelector(hosts_of(url), target, options.connect_timeout_ms / 1000, options.latest_primary)
        arguments = self._arguments(options)
        url = url.difference_update_query(["host", "port", TARGET])
        engine = create_async_engine(
            url,
            connect_args={**arguments, **self._sqlalchemy_arguments, "async_creator_fn": self._primary.connect},
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.pool_wait_ms / 1000,
            pool_use_lifo=True,
        )
        self._connect_arguments = {**engine.dialect.create_connect_args(url)[1], **arguments}
        self._numbers = UnnestRows({"number": BigInteger()})
        event.listen(engine.sync_engine, "checkout", self._check_open)
        event.listen(engine.sync_engine, "handle_error", self._check_lost)
        # The pool alone would let everybody wait, and refuse them only then.
        super().__init__(
            engine, options, Locks(ConcurrencyLimiter(options.pool_size, options.pool_wait_ms), nullcontext())
        )

    def rows(self, **columns: TypeEngine[Any]) -> RowParameter:
        """Make a row set of these columns."""
        return UnnestRows(columns)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Wait until no other migration runs, and keep others out until the transaction ends."""
        await connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    async def close(self) -> None:
        """Close every connection, once it is not used any more."""
        await self._finish_abandoned()
        await self._primary.close()
        await super().close()

    async def limit(self, session: AsyncSession, timeout_ms: int) -> None:
        """Let the database cancel what takes longer, for this transaction."""
        await session.execute(text(f"SET LOCAL statement_timeout = {timeout_ms:d}"))

    async def try_lock(self, session: AsyncSession, numbers: Sequence[int]) -> list[bool]:
        """Keep each of these numbers for this transaction, unless another has it."""
        position, number = self._numbers.table.c[ORDINALITY], self._numbers.table.c.number
        tried = select(position, func.pg_try_advisory_xact_lock(number))
        found = await session.execute(tried, self._numbers.bind([(number,) for number in numbers]))
        return [got for _, got in sorted(map(tuple, found))]

    def statement(self, source: "Select[Any] | UpdateBase") -> Statement:
        """Compile a statement once; in batchers, a write leaves a commit record."""
        sent = with_commit_record(source) if isinstance(source, UpdateBase) else source
        return Statement(source, self.engine.dialect, native_types=True, sent=sent)

    def _arguments(self, options: Options) -> dict[str, Any]:
        """Return the arguments of asyncpg.connect, but for user, database and host."""
        return {
            # The database cancels first, so that the connection survives; this is for a database that is silent.
            "command_timeout": (options.statement_timeout_ms or 3_600_000) / 1000 + 1,
            "server_settings": {
                "application_name": APPLICATION_NAME,
                "statement_timeout": str(options.statement_timeout_ms),
                # What a client left in the middle, it must not go on holding.
                "idle_in_transaction_session_timeout": str(2 * options.statement_timeout_ms),
                "timezone": "UTC",
                **HEAR_WARNINGS,
            },
        }

    def _check_open(self, connection: Any, _record: object, _proxy: object) -> None:
        # What is known to be lost is replaced, with the whole pool; to ask the server would cost a round trip.
        if not self._primary.holds(connection.driver_connection):
            raise InvalidatePoolError

    def _check_lost(self, context: ExceptionContext) -> None:
        # SQLAlchemy does not know every error that says so, and would keep the connection.
        if is_connection_lost(context.original_exception):
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

    async def _wrap(self, driver: Any, *, generic_plan: bool) -> Connection:
        with translate_errors():
            await driver.set_type_codec(
                "timestamptz", schema="pg_catalog", encoder=_microseconds, decoder=_moment, format="tuple"
            )
            if generic_plan:
                await driver.execute("; ".join(f"SET {name} = {value}" for name, value in GENERIC_PLAN.items()))
        return PostgreSQLConnection(driver, self._primary)


@remembered
def _moment(microseconds: tuple[int]) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds[0])


def _microseconds(moment: datetime) -> tuple[int]:
    return ((moment - EPOCH) // timedelta(microseconds=1),)


class PostgreSQLConnection:
    """A connection of asyncpg, whose own cache keeps the statement prepared."""

    def __init__(self, driver: Driver, primary: HostSelector) -> None:
        self._driver = driver
        self._primary = primary

    @property
    def closed(self) -> bool:
        """Whether the connection is lost, or leads to what is no primary any more."""
        return not self._primary.holds(self._driver)

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call back, maybe more than once, when the connection is lost, or is not to be used any more."""
        self._primary.watch(self._driver, callback)

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Run a statement and give its rows; a write under a token that was used before does not happen again."""
        if not statement.writes:
            return await self._run(statement.sql, statement.arguments(values), wrote=False)
        key = UUID(token or token_bytes(TOKEN_BYTES))
        try:
            return await self._run(statement.sql, statement.arguments(values, token=key), wrote=True)
        except (Unavailable, TimedOut, OutcomeUnknown):
            raise
        except Exception:
            # What stands in the way may be the commit record, or the rows, of an attempt that has happened.
            if not (found := await self._run(FIND, [key], wrote=True)):
                raise
        raise DuplicateWrite(*found[0])

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
            lost = self._note(error)
            raise translate_error(error, lost=lost, wrote=wrote) from error
        return rows

    def _note(self, error: BaseException) -> bool:
        """Report an error to the primary, hold a connection no more that is lost, and return whether it is."""
        self._primary.note(self._driver, error)
        # In between the server's last word and the end of the connection, asyncpg loses its way.
        lost = is_connection_lost(error) or isinstance(error, asyncpg.InternalClientError) or self._driver.is_closed()
        if lost:
            self._primary.forget(self._driver)
        return lost
