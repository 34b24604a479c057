"""PostgreSQL behind PgBouncer in transaction mode, where any two transactions may run on different connections to it.

What outlasts a transaction is not used: no named prepared statement, and no setting but the two that PgBouncer itself
carries from one connection to the other. So every statement of a batcher is a transaction that begins with settings.
"""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy import Connection as SyncConnection

from db.engines.database import DRIVER_ERRORS, Connection, Options, translate_error
from db.engines.failover import Driver, HostSelector
from db.engines.postgresql import GENERIC_PLAN, PostgreSQL, PostgreSQLConnection
from db.engines.replication import HEAR_WARNINGS
from db.errors import ConnectionLost, InvalidValue, OutcomeUnknown


class PgBouncer(PostgreSQL):
    """PostgreSQL by asyncpg, through PgBouncer."""

    target = "any"  # it tells what its server was once, and it alone chooses the server
    _sqlalchemy_arguments: Mapping[str, Any] = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}

    def __init__(self, url: URL, options: Options) -> None:
        super().__init__(url, options)
        settings = {"statement_timeout": options.statement_timeout_ms, **HEAR_WARNINGS}
        # In one statement, as SQLAlchemy prepares it.
        self._settings_sql = "SELECT " + ", ".join(
            f"set_config('{name}', '{value}', true)" for name, value in settings.items()
        )
        event.listen(self.engine.sync_engine, "begin", self._apply_settings)

    def _arguments(self, options: Options) -> dict[str, Any]:
        arguments = super()._arguments(options)
        for name in ("statement_timeout", "idle_in_transaction_session_timeout", *HEAR_WARNINGS):
            del arguments["server_settings"][name]  # PgBouncer refuses who sends what it does not know
        return {**arguments, "statement_cache_size": 0}

    def _apply_settings(self, connection: SyncConnection) -> None:
        connection.exec_driver_sql(self._settings_sql)

    async def _wrap(self, driver: Any, *, generic_plan: bool) -> Connection:
        await super()._wrap(driver, generic_plan=False)
        settings = [f"SET LOCAL {name} = {value}" for name, value in GENERIC_PLAN.items() if generic_plan]
        return PgBouncerConnection(driver, self._primary, "; ".join(["BEGIN", self._settings_sql, *settings]))


class PgBouncerConnection(PostgreSQLConnection):
    """A connection of asyncpg to PgBouncer: four round trips for a statement, in place of one."""

    def __init__(self, driver: Driver, primary: HostSelector, begin: str) -> None:
        super().__init__(driver, primary)
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
            if not (lost := self._note(error)):
                await self._roll_back()
            raise translate_error(error, lost=lost or self._driver.is_closed(), wrote=committing) from error
        except OutcomeUnknown:  # the COMMIT is over, and the connection is good
            raise
        except BaseException:  # cancelled, say: nobody may find a connection inside a transaction
            self._primary.forget(self._driver)
            raise
        return rows

    async def _roll_back(self) -> None:
        """Leave no transaction behind, or no connection."""
        if self._driver.is_closed() or not self._driver.is_in_transaction():
            return
        try:
            await self._driver.execute("ROLLBACK")
        except (*DRIVER_ERRORS, OSError):
            self._driver.terminate()
