"""What both databases have in common: how to connect, and what their failures are called."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Protocol

import aiosqlite
import asyncpg
from sqlalchemy import Select, UpdateBase
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.types import TypeEngine

from db.engines.row_parameters import RowParameter
from db.engines.statement import Statement
from db.errors import ConnectionLost, OutcomeUnknown, Overloaded, error_class, is_connection_lost, is_undone

log = logging.getLogger(__name__)

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, aiosqlite.Error)


class Options(NamedTuple):
    """How to use the database."""

    pool_size: int = 4
    pool_wait_ms: int = 1000
    connect_timeout_ms: int = 2000
    statement_timeout_ms: int = 5000
    pgbouncer: bool = False
    echo: bool = False  # the SQL of batchers; SQLAlchemy's own is a matter of its logger's level
    latest_primary: MutableSequence[int] | None = None  # memory that the workers of a service share: LatestPrimary


class Connection(Protocol):
    """A connection that a batcher owns: every statement is a transaction of its own."""

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""

    def add_close_callback(self, callback: Callable[[], None]) -> None:
        """Call back, maybe more than once, when the connection is lost, or is not to be used any more."""

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Run a statement and give its rows; a write under a token that was used before does not happen again.

        Raises the words of db.errors: Lost when nothing can have changed, OutcomeUnknown when it may have, and
        DuplicateWrite.
        """


class EchoingConnection:
    """A connection that logs what it runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.add_close_callback = connection.add_close_callback

    @property
    def closed(self) -> bool:
        """Whether the connection is lost."""
        return self._connection.closed

    async def fetch(self, statement: Statement, values: Mapping[str, Any], token: bytes | None = None) -> list[Any]:
        """Log a statement, run it and give its rows."""
        log.info("%s %r", statement.sql, values)
        return await self._connection.fetch(statement, values, token)


class Locks(NamedTuple):
    """Who must wait for whom inside one process."""

    to_write: AbstractAsyncContextManager[Any]
    to_read: AbstractAsyncContextManager[Any]


class Database(ABC):
    """Engine, dialect and connections. Statements that stand alone use `connect`, everything else `session`."""

    native_types: bool  # whether the driver takes and gives Python's own values
    can_disconnect: bool  # whether a connection to it can be lost, and with it what became of a write
    auto_migrate: bool  # whether the service brings the schema up when it starts
    has_statistics: bool  # whether its planner knows what a filter matches

    def __init__(self, engine: AsyncEngine, options: Options, locks: Locks) -> None:
        self.engine = engine
        self.locks = locks
        self.options = options
        self._abandoned: set[asyncio.Task[Any]] = set()

    @abstractmethod
    def rows(self, **columns: TypeEngine[Any]) -> RowParameter:
        """Make a row set of these columns."""

    @abstractmethod
    def _open(self) -> AbstractAsyncContextManager[Any]:
        """Hold a driver's connection, outside of the pool. Raises Unavailable."""

    @abstractmethod
    async def _wrap(self, driver: Any, *, generic_plan: bool) -> Connection:
        """Prepare a driver's connection for batchers, and wrap it."""

    @abstractmethod
    async def lock_schema(self, connection: AsyncConnection) -> None:
        """Wait until no other migration runs, and keep others out until the transaction ends."""

    @abstractmethod
    async def limit(self, session: AsyncSession, timeout_ms: int) -> None:
        """Let the database cancel what takes longer, for this transaction."""

    @abstractmethod
    async def try_lock(self, session: AsyncSession, numbers: Sequence[int]) -> list[bool]:
        """Keep each of these numbers for this transaction, unless another has it."""

    def statement(self, source: "Select[Any] | UpdateBase") -> Statement:
        """Compile a statement once."""
        return Statement(source, self.engine.dialect, native_types=self.native_types)

    @asynccontextmanager
    async def connect(self, *, generic_plan: bool = False) -> AsyncIterator[Connection]:
        """Hold a connection of one's own, outside of the pool. Raises Unavailable.

        With `generic_plan` a statement is planned once, whatever its arguments: right for keys, wrong for ranges.
        """
        async with self._open() as driver:
            own = await self._wrap(driver, generic_plan=generic_plan)
            yield EchoingConnection(own) if self.options.echo else own

    async def version(self) -> str:
        """Return the name and version of what is connected to. Raises Unavailable."""
        with translate_errors():
            async with self.engine.connect() as connection:
                numbers = connection.dialect.server_version_info or ()
        return f"{self.engine.dialect.name} {'.'.join(map(str, numbers))}"

    def abandon(self, task: "asyncio.Task[Any]") -> None:
        """Cancel a task if it still runs, and let `close` wait for its end, which may take as long as a statement."""
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # so that nobody complains that it was never asked for

    async def close(self) -> None:
        """Close every connection, once it is not used any more."""
        await self._finish_abandoned()
        await self.engine.dispose()

    async def _finish_abandoned(self) -> None:
        if self._abandoned:
            await asyncio.wait(self._abandoned)


@contextmanager
def translate_errors(*, committing: bool = False) -> Iterator[None]:
    """Put what SQLAlchemy raises into the words of db.errors; without a commit, nothing has changed."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Overloaded("every connection to the database is in use") from error
    except DBAPIError as error:
        cause = error.orig or error
        raise translate_error(
            cause, lost=error.connection_invalidated or is_connection_lost(cause), wrote=committing
        ) from error
    except (*DRIVER_ERRORS, OSError) as error:
        raise translate_error(error, lost=True, wrote=committing) from error


def translate_error(error: BaseException, *, lost: bool, wrote: bool) -> BaseException:
    """Put a driver's error into a word of db.errors; an error without a word stays what it is."""
    word, undone = error_class(error), is_undone(error)
    if lost and not (word and undone):
        return (OutcomeUnknown if wrote and not undone else ConnectionLost)(
            f"the connection to the database failed: {str(error) or type(error).__name__}"
        )
    return error if word is None else word(str(error))
