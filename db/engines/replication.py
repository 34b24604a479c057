"""Commits that PostgreSQL has made, and that no synchronous standby has confirmed.

A commit that waits for a standby is over for its server as soon as the wait is cancelled, by a driver's timeout or by
an administrator. The server then reports success and the commit is visible, but a failover loses it; the only sign is a
warning. A connection here raises OutcomeUnknown at that warning. And a query for the record of an earlier commit has to
write to it: a write waits until the standby has it and everything before it; a read, or an INSERT … ON CONFLICT DO
NOTHING, does not wait (findings/found-before-replicated.sh).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from db.engines.quick_connection import QuickConnection
from db.errors import OutcomeUnknown

log = logging.getLogger(__name__)

# The function that warns (PostgreSQL, src/backend/replication/syncrep.c): the text is in the server's language.
WARNING_FUNCTION = "SyncRepWaitForLSN"
# A role or a database may be configured to receive no warnings.
WARNING_SETTINGS = {"client_min_messages": "warning"}
CLOSE_TIMEOUT_S = 2.0


class ConfirmedConnection(QuickConnection):
    """A connection that acknowledges no commit of a former primary, and none that a synchronous standby lacks."""

    __slots__ = ("_closing", "_unconfirmed", "is_current")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_current: Callable[[], bool] = lambda: True  # whether its server is the latest primary found
        self._unconfirmed = False
        self._closing: asyncio.Task[None] | None = None
        self.add_log_listener(_log_listener)

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run SQL and return its status. Raises OutcomeUnknown after a COMMIT as `check_confirmed` does."""
        status: str = await super().execute(query, *arguments, timeout=timeout)
        if query.startswith("COMMIT"):
            self.check_confirmed()
        return status

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Cancel the statement that still runs, and close the connection; a caller that is cancelled leaves it to that.

        `terminate` and a second `close` would drop the request to cancel, and a server does not notice that the client
        of a waiting commit has gone: the backend stays, with its locks (asyncpg 0.32, PostgreSQL 18).
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(timeout or CLOSE_TIMEOUT_S))
        await asyncio.shield(self._closing)

    async def _close(self, timeout: float) -> None:  # noqa: ASYNC109
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # after which it is closed, too
            await super().close(timeout=timeout)

    def terminate(self) -> None:
        """Drop the connection at once, unless it is being closed, which has a time limit."""
        if self._closing is None or self._closing.done():
            super().terminate()

    def check_confirmed(self) -> None:
        """Raise OutcomeUnknown if the last commit may be lost in a failover.

        It was reported before a synchronous standby had it, or another server was found to be the primary.
        """
        if self._unconfirmed:
            self._unconfirmed = False
            raise OutcomeUnknown("no synchronous standby has confirmed the commit")
        if not self.is_current():
            raise OutcomeUnknown("another server has become the primary")


# asyncpg schedules this before it wakes the waiter of the statement: the warning precedes the result of the commit.
def _log_listener(connection: Any, message: asyncpg.PostgresLogMessage) -> None:
    if message.server_source_function == WARNING_FUNCTION:
        connection._unconfirmed = True  # noqa: SLF001 - a ConfirmedConnection
        log.warning(
            "no synchronous standby has confirmed a commit: it is visible, a failover would lose it, and it is not"
            " acknowledged; pg_stat_replication shows which standbys are connected"
        )
