"""Connections of asyncpg (0.32) that run a statement as `Connection.fetch` does, without its lock, log and timer.

One task at a time has a connection here. A timer for each connection watches its time limit, as one for each statement
takes 4 µs of the 27 that asyncpg takes for a small one. Where another version has other insides, it is
tests/db/test_quick_connection.py that fails.
"""

import asyncio
from typing import Any

import asyncpg
from asyncpg.protocol.protocol import NO_TIMEOUT


class QuickConnection(asyncpg.Connection):
    """A connection with a quick `fetch`, for one task at a time."""

    __slots__ = ("_deadline", "_fetching", "_timer")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fetching: asyncio.Task[Any] | None = None  # the task whose statement is in flight
        self._deadline = 0.0  # of that statement, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self.add_termination_listener(_stop_timer)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:  # type: ignore[override] # takes no more
        """Run one statement, which stays prepared in the driver's own cache, and return its rows.

        Raises TimeoutError after the connection's time limit, and cancels the statement.
        """
        driver: Any = self
        driver._check_open()  # noqa: SLF001
        protocol = driver._protocol  # noqa: SLF001 - which is None once the connection was dropped, maybe below
        statement = await driver._get_statement(query, None)  # noqa: SLF001
        self._fetching = task = asyncio.current_task()
        self._deadline = driver._loop.time() + driver._config.command_timeout  # noqa: SLF001
        if self._timer is None:
            self._watch()
        try:
            try:
                rows: list[Any] = await protocol.bind_execute(statement, arguments, "", 0, False, NO_TIMEOUT)  # noqa: FBT003
            except asyncpg.InvalidCachedStatementError:  # a migration has changed its columns, so it has not run
                rows = await super().fetch(query, *arguments)  # prepares it anew, within the same time limit
        except asyncio.CancelledError:
            if self._fetching or task is None or task.uncancel():  # the cancellation is not this connection's own
                raise
            raise TimeoutError("the database does not respond") from None
        finally:
            self._fetching = None
        return rows

    def _watch(self) -> None:
        driver: Any = self
        self._timer = driver._loop.call_at(self._deadline, self._cancel_if_late)  # noqa: SLF001

    def _cancel_if_late(self) -> None:
        """Cancel the statement in flight if it is past its deadline; without one, the next statement watches again."""
        driver: Any = self
        self._timer, task = None, self._fetching
        if task is None:
            return
        if self._deadline > driver._loop.time():  # noqa: SLF001
            self._watch()
        else:
            self._fetching = None
            task.cancel()


def _stop_timer(connection: Any) -> None:
    if connection._timer is not None:  # noqa: SLF001 - a QuickConnection
        connection._timer.cancel()  # noqa: SLF001
