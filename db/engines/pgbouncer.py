"""PostgreSQL behind PgBouncer in transaction mode, where each transaction may run on another connection to PostgreSQL.

Nothing that outlasts a transaction is used: no named prepared statement, and no setting but the two that PgBouncer
itself carries from one connection to another. So each statement of a batcher runs in a transaction that begins with its
settings.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import URL, event, text

from db.engines.database import DRIVER_ERRORS, BatchConnection, Options, translate_error, translate_errors
from db.engines.failover import Driver, HostSelector
from db.engines.postgresql import GENERIC_PLAN, PostgreSQL, PostgreSQLConnection
from db.engines.replication import WARNING_SETTINGS
from db.errors import ConnectionLost, InvalidValue, OutcomeUnknown
from db.observer import Observer


class PgBouncer(PostgreSQL):
    """PostgreSQL through PgBouncer, by asyncpg."""

    target = "any"  # it reports what its server was once, and it alone chooses the server
    _sqlalchemy_arguments: Mapping[str, Any] = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}

    def __init__(self, url: URL, options: Options) -> None:
        super().__init__(url, options)
        settings = {"statement_timeout": options.statement_timeout_ms, **WARNING_SETTINGS}
        # In one statement, as SQLAlchemy prepares it.
        self._settings_sql = "SELECT " + ", ".join(
            f"set_config('{name}', '{value}', true)" for name, value in settings.items()
        )
        event.listen(self.engine.sync_engine, "begin", lambda begun: begun.exec_driver_sql(self._settings_sql))

    async def advice(self) -> str:
        """Return advice if there is no pooler: each batch takes four round trips, and no failover is followed."""
        with translate_errors():
            async with self.engine.connect() as connection:
                process = await connection.scalar(text("SELECT pg_backend_pid()"))
                driver: Any = (await connection.get_raw_connection()).driver_connection
        is_direct = process == driver.get_server_pid()
        return (
            "ITEMSVC_PGBOUNCER is on, but there is no pooler: off is faster, and follows failovers" if is_direct else ""
        )

    async def connections_max(self) -> int | None:
        """Return None: how many PgBouncer allows only its console says."""
        return None

    def _arguments(self, options: Options) -> dict[str, Any]:
        arguments = super()._arguments(options)
        for name in ("statement_timeout", "idle_in_transaction_session_timeout", *WARNING_SETTINGS):
            del arguments["server_settings"][name]  # PgBouncer refuses connections with settings unknown to it
        return {**arguments, "statement_cache_size": 0}

    async def _wrap(self, driver: Any, *, generic_plan: bool) -> BatchConnection:
        await super()._wrap(driver, generic_plan=False)
        settings = [f"SET LOCAL {name} = {value}" for name, value in GENERIC_PLAN.items() if generic_plan]
        begin = "; ".join(["BEGIN", self._settings_sql, *settings])
        return PgBouncerConnection(driver, self._primary, self.options.observer, begin)


class PgBouncerConnection(PostgreSQLConnection):
    """A connection of asyncpg to PgBouncer: a statement takes four round trips, in place of one."""

    def __init__(self, driver: Driver, primary: HostSelector, observer: Observer, begin: str) -> None:
        super().__init__(driver, primary, observer)
        self._begin = begin

    async def _run(self, sql: str, arguments: list[Any], *, wrote: bool) -> list[Any]:
        if self.closed:
            raise ConnectionLost("the connection to the database was lost")
        committing = False
        try:
            await self._driver.execute(self._begin)
            rows: list[Any] = await self._driver.fetch(sql, *arguments)
            committing = wrote
            await self._driver.execute("COMMIT")
        except asyncpg.DataError as error:  # the driver's, before sending, as well as the server's
            await self._roll_back()
            raise InvalidValue(str(error)) from error
        except (*DRIVER_ERRORS, OSError) as error:
            if not (lost := self._report(error)):
                await self._roll_back()
            raise translate_error(error, lost=lost or self._driver.is_closed(), wrote=committing) from error
        except OutcomeUnknown:  # the COMMIT is over, and the connection is good
            raise
        except BaseException:  # cancelled, say: no connection may be used again inside a transaction
            self._primary.forget(self._driver)
            raise
        return rows

    async def _roll_back(self) -> None:
        """Roll back the transaction if one is open; close the connection if that fails."""
        if self._driver.is_closed() or not self._driver.is_in_transaction():
            return
        try:
            await self._driver.execute("ROLLBACK")
        except (*DRIVER_ERRORS, OSError):
            self._driver.terminate()
