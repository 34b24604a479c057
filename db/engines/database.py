"""The interface of a database and of its connections, and the translation of their errors."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Protocol

import aiosqlite
import asyncpg
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.types import TypeEngine

from db.batching.batch import ClosableConnection
from db.batching.connection_sets import ConnectionSets
from db.engines.advisory_locks import Lock
from db.engines.connector import Credentials
from db.engines.limiter import ConcurrencyLimiter
from db.engines.row_parameters import RowParameter
from db.engines.statement import Source, Statement
from db.errors import (
    ConnectionLost,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    error_class,
    is_connection_lost,
    is_undone,
)
from db.limit import Limit
from db.observer import Observer, Unobserved

log = logging.getLogger(__name__)

HIDE_PARAMETERS = True  # SQLAlchemy's log and errors cut long values, and with them what a secret is known by
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, aiosqlite.Error)


class Options(NamedTuple):
    """Settings of the connections to a database."""

    pool_size: int = 4
    pool_wait_ms: int = 1000
    connect_timeout_ms: int = 2000
    statement_timeout_ms: int = 5000
    pgbouncer: bool = False
    echo: bool = False  # log the SQL of batchers; SQLAlchemy logs its own by its logger's level
    latest_primary: MutableSequence[int] | None = None  # memory that the workers share: see failover, connection_sets
    reread_credentials: Callable[[], Credentials] | None = None  # called when the server refuses a connection
    observer: Observer = Unobserved()


class Connection(Protocol):
    """What runs the statements of a batch: a connection of `connect`, or a session."""

    autocommits: bool  # whether each statement is a transaction of its own, and is committed when it returns

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Run a statement and return its rows; a write under a token that was committed before is not run again.

        Raises the errors of db.errors: ConnectionLost if nothing can have changed, OutcomeUnknown if something may
        have, and DuplicateWrite for a token that was committed before.
        """


class BatchConnection(Connection, ClosableConnection, Protocol):
    """A connection outside the pool, which batchers borrow."""


class EchoingConnection:
    """A connection that logs each statement and its arguments, unless they may be secrets."""

    autocommits = True

    def __init__(self, connection: BatchConnection) -> None:
        self._connection = connection
        self.add_close_callback = connection.add_close_callback

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._connection.closed

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Log a statement, run it and return its rows."""
        statement, values = statement.for_rows(values)
        log.info("%s %r", statement.sql, "[not shown]" if statement.is_secret else values)
        return await self._connection.fetch(statement, values, token)


class Locks(NamedTuple):
    """The limits on the transactions of one process: to enter while writing, and while reading."""

    to_write: ConcurrencyLimiter
    to_read: ConcurrencyLimiter


class Database(ABC):
    """A database: its engine, its dialect, its connections.

    A statement that is a transaction of its own runs on a connection of `connect`, any other in a session (db/session).
    """

    row_parameter: Callable[[Mapping[str, TypeEngine[Any]]], RowParameter]
    can_disconnect: bool  # whether a connection can be lost, and with it the outcome of a write
    read_options: Mapping[str, Any]  # execution options of a transaction that reads: all of it sees one state
    auto_migrate: bool  # whether the service migrates the schema when it starts
    product: str  # the name of the database system
    version_min: tuple[int, ...]  # the oldest that its statements run on
    has_roles: bool  # whether there are roles, which may lack privileges on tables
    has_lateral: bool  # whether a subquery in FROM can refer to the tables before it
    runs_in_process: bool  # whether it runs in this process, and waits for Python's lock at each row
    has_statistics: bool  # whether its planner estimates how many rows a filter matches
    row_count: str  # SQL that estimates, at no cost that grows, how many rows the table in the braces has

    def __init__(self, engine: AsyncEngine, options: Options, locks: Locks) -> None:
        self.engine = engine
        self.locks = locks
        self.options = options
        self._abandoned: set[asyncio.Task[Any]] = set()

    @abstractmethod
    def _open(self) -> AbstractAsyncContextManager[Any]:
        """Open a driver's connection outside the pool, and close it at the end. Raises Unavailable."""

    @abstractmethod
    async def _wrap(self, driver: Any, *, generic_plan: bool) -> BatchConnection:
        """Prepare a driver's connection for batchers, and return it wrapped."""

    @abstractmethod
    def migration(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Yield a connection in a transaction that no other migration runs beside; commit it at the end."""

    @abstractmethod
    async def limit(self, session: AsyncSession, timeout_ms: int) -> None:
        """Set the time after which the database cancels a statement of this transaction."""

    @abstractmethod
    async def try_lock(self, session: AsyncSession, locks: Sequence[Lock]) -> list[Collection[int] | None]:
        """Try to lock each until the transaction ends; return None if it is locked now, else the marks known of it."""

    def rows(self, **columns: TypeEngine[Any]) -> RowParameter:
        """Return a row parameter with these columns."""
        return self.row_parameter(columns)

    @abstractmethod
    def statement(self, source: Source) -> Statement:
        """Return a statement for this database, to be compiled when it runs first."""

    @asynccontextmanager
    async def connect(self, *, generic_plan: bool = False) -> AsyncIterator[BatchConnection]:
        """Open a connection outside the pool, and close it at the end. Raises Unavailable.

        With `generic_plan` a statement is planned once, whatever its arguments: right for keys and for pages without
        filters, which have one good plan; wrong for filters, whose best index depends on their values.
        """
        async with self._open() as driver:
            connection = await self._wrap(driver, generic_plan=generic_plan)
            yield EchoingConnection(connection) if self.options.echo else connection

    async def version(self) -> str:
        """Return the name and version of the database server. Raises Unavailable."""
        with translate_errors():
            async with self.engine.connect() as connection:
                numbers = connection.dialect.server_version_info or ()
        return f"{self.engine.dialect.name} {_dotted(numbers)}"

    def check_version(self, numbers: tuple[int | str, ...]) -> None:
        """Raise Unavailable if the database system, of this version, is too old."""
        if tuple(map(int, numbers)) < self.version_min:
            needed = f"{_dotted(self.version_min)} or newer is needed"
            raise Unavailable(f"{self.product} {_dotted(numbers)} is too old: {needed}")

    def share_connections(self, sets: ConnectionSets) -> None:  # noqa: B027 - a file has as many as are opened
        """Have the pool share what connections the server allows."""

    @abstractmethod
    async def check_pool(self) -> None:
        """Open the pool's first connection if it has none. Raises Unavailable if there can be none."""

    async def advice(self) -> str:
        """Return what would better be set otherwise, though it works; "" for nothing. Raises Unavailable."""
        return ""

    async def connections_max(self) -> int | None:
        """Return how many connections the server allows a role without privileges; None: not limited, or not known.

        Raises Unavailable.
        """
        return None

    def abandon(self, task: "asyncio.Task[Any]", *, cancel: bool) -> None:
        """Leave a task that may still run to its end, or cancel it; `close` waits for it."""
        if cancel:
            task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        _ = task.cancelled() or task.exception()  # or asyncio logs that it was never retrieved

    async def close(self) -> None:
        """Wait for abandoned tasks, then close every connection."""
        if self._abandoned:
            await asyncio.wait(self._abandoned)
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self.engine.dispose()


def _dotted(numbers: Sequence[int | str]) -> str:
    return ".".join(map(str, numbers))


@contextmanager
def translate_errors(*, committing: bool = False) -> Iterator[None]:
    """Translate the errors of SQLAlchemy and its drivers into those of db.errors.

    Without `committing`, nothing can have changed: a lost connection is ConnectionLost, never OutcomeUnknown.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise Overloaded("every connection to the database is in use", Limit.POOL_WAIT) from error
    except PendingRollbackError as error:  # a statement after one that lost the connection
        raise ConnectionLost(str(error)) from error
    except DBAPIError as error:
        cause = error.orig or error
        raise translate_error(cause, lost=error.connection_invalidated or is_lost(cause), wrote=committing) from error
    except (*DRIVER_ERRORS, OSError) as error:
        raise translate_error(error, lost=True, wrote=committing) from error


def is_lost(error: BaseException) -> bool:
    """Return whether an error, of a driver or of SQLAlchemy, means that its connection is lost.

    Between the server's last message and the end of the connection, asyncpg raises errors of its own state.
    """
    return is_connection_lost(error) or isinstance(error.__cause__ or error, asyncpg.InternalClientError | OSError)


def translate_error(error: BaseException, *, lost: bool, wrote: bool) -> BaseException:
    """Return the error of db.errors for a driver's error, or the same error if it has none.

    If the connection is `lost`, a statement that `wrote` has an unknown outcome, unless the server reported it undone.
    """
    known, undone = error_class(error), is_undone(error)
    if lost and not (known and undone):
        return (OutcomeUnknown if wrote and not undone else ConnectionLost)(
            f"the connection to the database failed: {str(error) or type(error).__name__}"
        )
    return error if known is None else known(str(error))
