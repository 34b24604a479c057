"""A database behind its URL: the only file that asks which one it is."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import aiosqlite
import asyncpg
from sqlalchemy import (
    URL,
    Dialect,
    ExceptionContext,
    NullPool,
    Select,
    StaticPool,
    UpdateBase,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.types import TypeEngine

from db.errors import OutcomeUnknown, Overloaded, Refused, Unavailable, means_lost, word_for
from db.rows import ArrayRows, JSONRows, RowSet

log = logging.getLogger(__name__)

APPLICATION_NAME = "items-service"
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
SCHEMA_LOCK = 0x6974656D73  # any number will do that nobody else locks


class Options(NamedTuple):
    """How to use the database."""

    pool_size: int = 4
    pool_wait_ms: int = 1000
    connect_timeout_ms: int = 2000
    statement_timeout_ms: int = 5000
    echo: bool = False  # the SQL of lanes; SQLAlchemy's own is a matter of its logger's level


class Statement:
    """SQL that was compiled once, for one dialect, with the order of its arguments.

    A driver that is `typed` takes and gives Python's own values; around any other, SQLAlchemy's types translate.
    """

    def __init__(self, source: "Select[Any] | UpdateBase", dialect: Dialect, *, typed: bool) -> None:
        compiled = source.compile(dialect=dialect)
        self.source = source
        self.sql = str(compiled)
        self.writes = isinstance(source, UpdateBase)
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._into: dict[str, Callable[[Any], Any]] = {}
        self._out_of: list[Callable[[Any], Any] | None] | None = None
        if typed:
            return
        for name, bind in compiled.binds.items():
            if (process := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None:
                self._into[name] = process
        columns = source.selected_columns if isinstance(source, Select) else source.exported_columns
        self._out_of = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Put named values in the order that the SQL wants."""
        values = {**self._constants, **values}
        for name, process in self._into.items():
            values[name] = process(values[name])
        return [values[name] for name in self._names]

    def read(self, rows: list[Any]) -> list[Any]:
        """Turn what the driver gives into Python values, where the driver does not."""
        if self._out_of is None:
            return rows
        return [
            [value if process is None else process(value) for process, value in zip(self._out_of, row, strict=True)]
            for row in rows
        ]


class Connection(Protocol):
    """A connection that a lane owns: every statement is a transaction of its own."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as the connection is lost."""

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement and give its rows.

        Raises the words of db.errors: Unavailable when nothing can have changed, OutcomeUnknown when it may have.
        """


class PostgreSQLConnection:
    """A connection of asyncpg, whose own cache keeps the statement prepared."""

    def __init__(self, driver: "asyncpg.Connection[Any]") -> None:
        self._driver = driver

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._driver.is_closed()

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as the connection is lost."""
        self._driver.add_termination_listener(lambda _: callback())

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement and give its rows."""
        if self._driver.is_closed():
            raise Unavailable("the connection to the database was lost")
        try:
            return statement.read(await self._driver.fetch(statement.sql, *statement.arguments(values)))
        except asyncpg.DataError as error:  # the driver's, before sending, as well as the server's
            raise Refused(str(error)) from error
        except (*DRIVER_ERRORS, OSError) as error:
            # In between the server's last word and the end of the connection, asyncpg loses its way.
            if means_lost(error) or isinstance(error, asyncpg.InternalClientError) or self._driver.is_closed():
                self._driver.terminate()
            raise said(error, lost=self._driver.is_closed(), wrote=statement.writes) from error


class SQLiteConnection:
    """A connection of aiosqlite: one hop to its thread for each statement."""

    closed = False

    def __init__(self, driver: aiosqlite.Connection, turns: "Turns", timeout_s: float) -> None:
        self._driver = driver
        self._turns = turns
        self._timeout_s = timeout_s

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Do nothing: a file is not lost."""

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        """Run a statement and give its rows."""
        arguments = statement.arguments(values)
        async with self._turns.to_write if statement.writes else self._turns.to_read:
            loop = asyncio.get_running_loop()
            limit = loop.call_later(self._timeout_s, lambda: loop.create_task(self._driver.interrupt()))
            try:
                rows = await self._driver.execute_fetchall(statement.sql, arguments)
            except aiosqlite.Error as error:
                raise said(error, lost=False, wrote=statement.writes) from error
            finally:
                limit.cancel()
        return statement.read(list(rows))


class EchoingConnection:
    """A connection that logs what it runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.when_closed = connection.when_closed

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._connection.closed

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        """Log a statement, run it and give its rows."""
        log.info("%s %r", statement.sql, values)
        return await self._connection.fetch(statement, values)


class Turn:
    """A lock, as long waited for as a connection of the pool. Raises Overloaded."""

    def __init__(self, wait_ms: int) -> None:
        self._lock = asyncio.Lock()
        self._wait_ms = wait_ms

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._wait_ms / 1000 if self._lock.locked() else None):
                await self._lock.acquire()
        except TimeoutError:
            raise Overloaded("others write to the database for too long") from None

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class Turns(NamedTuple):
    """Who must wait for whom inside one process."""

    to_write: AbstractAsyncContextManager[Any]
    to_read: AbstractAsyncContextManager[Any]


def said(error: BaseException, *, lost: bool, wrote: bool) -> BaseException:
    """Put a driver's error into a word of db.errors; an error without a word stays what it is."""
    if lost:
        return (OutcomeUnknown if wrote else Unavailable)(
            f"the connection to the database failed: {str(error) or type(error).__name__}"
        )
    word = word_for(error)
    return error if word is None else word(str(error))


class Database(ABC):
    """Engine, dialect and connections. Statements that stand alone use `connect`, everything else `session`."""

    def __init__(self, engine: AsyncEngine, lanes: AsyncEngine, options: Options, turns: Turns) -> None:
        self.engine = engine
        self.turns = turns
        self._lanes = lanes
        self._options = options

    typed: bool
    migrates_itself: bool
    has_statistics: bool

    @abstractmethod
    def rows(self, **columns: TypeEngine[Any]) -> RowSet:
        """Make a row set of these columns."""

    @abstractmethod
    async def _keep_plans(self, driver: Any) -> None:
        """Plan each statement once."""

    @abstractmethod
    def _own(self, driver: Any) -> Connection:
        """Wrap a driver's connection."""

    @abstractmethod
    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Wait until no other migration runs, and keep others out until the transaction ends."""

    def statement(self, source: "Select[Any] | UpdateBase") -> Statement:
        """Compile a statement once."""
        return Statement(source, self.engine.dialect, typed=self.typed)

    @asynccontextmanager
    async def connect(self, *, one_plan: bool = False) -> AsyncIterator[Connection]:
        """Hold a connection of one's own, outside of the pool. Raises Unavailable.

        With `one_plan` a statement is planned once, whatever its arguments: right for sets of keys, wrong for ranges.
        """
        with translated():
            connection = await self._lanes.connect()
        try:
            raw = await connection.get_raw_connection()
            own = self._own(raw.driver_connection)
            if one_plan:
                await self._keep_plans(raw.driver_connection)
            yield EchoingConnection(own) if self._options.echo else own
        finally:
            await connection.close()

    async def version(self) -> str:
        """Give the name and version of what is connected to. Raises Unavailable."""
        with translated():
            async with self.engine.connect() as connection:
                numbers = connection.dialect.server_version_info or ()
        return f"{self.engine.dialect.name} {'.'.join(map(str, numbers))}"

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        await self._lanes.dispose()


class PostgreSQL(Database):
    """PostgreSQL by asyncpg: lanes own connections, transactions take them from a pool."""

    typed = True
    migrates_itself = False  # several instances may share it: that is a deployment's step
    has_statistics = True

    def __init__(self, url: URL, options: Options) -> None:
        arguments = {
            "timeout": options.connect_timeout_ms / 1000,
            # The database cancels first, so that the connection survives; this is for a database that is silent.
            "command_timeout": (options.statement_timeout_ms or 3_600_000) / 1000 + 1,
            "server_settings": {
                "application_name": APPLICATION_NAME,
                "statement_timeout": str(options.statement_timeout_ms),
                "timezone": "UTC",
            },
        }
        make = partial(create_async_engine, url, connect_args=arguments)
        pooled = make(
            pool_size=options.pool_size, max_overflow=0, pool_timeout=options.pool_wait_ms / 1000, pool_use_lifo=True
        )
        event.listen(pooled.sync_engine, "checkout", _check_open)
        event.listen(pooled.sync_engine, "handle_error", _check_lost)
        super().__init__(pooled, make(poolclass=NullPool), options, Turns(nullcontext(), nullcontext()))

    def rows(self, **columns: TypeEngine[Any]) -> RowSet:
        """Make a row set of these columns."""
        return ArrayRows(columns)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Wait until no other migration runs, and keep others out until the transaction ends."""
        await connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    async def _keep_plans(self, driver: Any) -> None:
        # Else PostgreSQL plans small sets anew each time: it takes a set of unknown size for one of ten. And the plan
        # that is best for an empty table, to read all of it, is kept while the table grows.
        with translated():
            await driver.execute(
                "SET plan_cache_mode = force_generic_plan;"
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
            )

    def _own(self, driver: Any) -> Connection:
        return PostgreSQLConnection(driver)


def _check_open(connection: Any, _record: object, _proxy: object) -> None:
    # What the driver knows to be lost is replaced, with the whole pool; to ask the server would cost a round trip.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def _check_lost(context: ExceptionContext) -> None:
    # SQLAlchemy does not know every error that says so, and would keep the connection.
    if means_lost(context.original_exception):
        context.is_disconnect = True


class SQLite(Database):
    """SQLite by aiosqlite: many readers and one writer; in memory, one connection for all of them."""

    typed = False
    migrates_itself = True  # it is nobody else's
    has_statistics = False

    def __init__(self, url: URL, options: Options) -> None:
        # Statements commit by themselves; a transaction begins in words, below.
        make = partial(create_async_engine, url, connect_args={"isolation_level": None, "async_creator_fn": _open_file})
        writer = Turn(options.pool_wait_ms)
        self._timeout_ms = options.statement_timeout_ms
        if url.database in {None, "", ":memory:"}:
            engine = lanes = make(poolclass=StaticPool)
            turns = Turns(writer, writer)
        else:
            engine, lanes = make(pool_size=options.pool_size, max_overflow=0), make(poolclass=NullPool)
            turns = Turns(writer, nullcontext())
        for one in {engine, lanes}:
            event.listen(one.sync_engine, "connect", self._configure)
            event.listen(one.sync_engine, "begin", _begin_immediate)
        super().__init__(engine, lanes, options, turns)

    def _configure(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {self._timeout_ms}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def rows(self, **columns: TypeEngine[Any]) -> RowSet:
        """Make a row set of these columns."""
        return JSONRows(columns)

    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Do nothing: a transaction that has begun keeps every other writer out."""

    async def _keep_plans(self, driver: Any) -> None:
        """Do nothing: SQLite plans when it prepares."""

    def _own(self, driver: Any) -> Connection:
        return SQLiteConnection(driver, self.turns, self._timeout_ms / 1000)


async def _open_file(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """Open a SQLite file; where that fails, see aiosqlite's thread to its end, or it complains about a closed loop."""
    connection = aiosqlite.connect(*arguments, **options)
    thread = connection._thread  # noqa: SLF001 - there is no other way to it
    thread.daemon = True  # as SQLAlchemy does
    try:
        return await connection
    except BaseException:
        await asyncio.to_thread(thread.join)
        raise


def _begin_immediate(connection: Any) -> None:
    # A transaction that starts as a reader cannot wait for the writer's lock later: it fails at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def open_database(url: str, options: Options = Options()) -> Database:
    """Make the database of a URL; nothing is connected yet."""
    parsed = make_url(url)
    return (PostgreSQL if parsed.get_backend_name() == "postgresql" else SQLite)(parsed, options)


@contextmanager
def translated(*, committing: bool = False) -> Iterator[None]:
    """Put what SQLAlchemy raises into the words of db.errors; without a commit, nothing has changed."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Overloaded("every connection to the database is in use") from error
    except DBAPIError as error:
        cause = error.orig or error
        raise said(cause, lost=error.connection_invalidated or means_lost(cause), wrote=committing) from error
    except (*DRIVER_ERRORS, aiosqlite.Error, OSError) as error:
        raise said(error, lost=True, wrote=committing) from error
