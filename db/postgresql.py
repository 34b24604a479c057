"""PostgreSQL by asyncpg."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import URL, ExceptionContext, NullPool, event, func, select
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.types import TypeEngine

from db.database import DRIVER_ERRORS, Connection, Database, Options, Turns, said, translated
from db.errors import Refused, Unavailable, means_lost
from db.rows import ArrayRows, RowSet
from db.statements import Statement, remembered

APPLICATION_NAME = "items-service"
# Else PostgreSQL plans small sets anew each time: it takes a set of unknown size for one of ten. And the plan that is
# best for an empty table, to read all of it, is kept while the table grows.
ONE_PLAN = """
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off
"""
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # from which PostgreSQL counts
SCHEMA_LOCK = 0x6974656D73  # any number will do that nobody else locks


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

    async def _own(self, driver: Any, *, one_plan: bool) -> Connection:
        with translated():
            await driver.set_type_codec(
                "timestamptz", schema="pg_catalog", encoder=_microseconds, decoder=_moment, format="tuple"
            )
            if one_plan:
                await driver.execute(ONE_PLAN)
        return PostgreSQLConnection(driver)


@remembered
def _moment(microseconds: tuple[int]) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds[0])


def _microseconds(moment: datetime) -> tuple[int]:
    return ((moment - EPOCH) // timedelta(microseconds=1),)


def _check_open(connection: Any, _record: object, _proxy: object) -> None:
    # What the driver knows to be lost is replaced, with the whole pool; to ask the server would cost a round trip.
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def _check_lost(context: ExceptionContext) -> None:
    # SQLAlchemy does not know every error that says so, and would keep the connection.
    if means_lost(context.original_exception):
        context.is_disconnect = True


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
