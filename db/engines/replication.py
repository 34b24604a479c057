"""Commits that PostgreSQL has made, and that no synchronous standby has confirmed.

A commit that waits for a standby is over for its server as soon as the wait is cancelled, by a driver whose time is up
or by an administrator. It is then reported as a success, is visible to everyone, and is lost in a failover; only a
warning says so. A connection here raises OutcomeUnknown at that warning. And whoever looks for the record of an earlier
commit has to write to it: a write waits for the standby, which has everything before it by then; a read, or an INSERT …
ON CONFLICT DO NOTHING, waits for nobody (findings/found-before-replicated.sh).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from db.errors import OutcomeUnknown

log = logging.getLogger(__name__)

# Where the warning comes from (PostgreSQL, src/backend/replication/syncrep.c): its text is in the server's language.
WAIT = "SyncRepWaitForLSN"
# A role or a database may be set to hear no warnings.
HEAR_WARNINGS = {"client_min_messages": "warning"}
CANCEL_TIMEOUT_S = 2.0


class ConfirmedConnection(asyncpg.Connection):
    """A connection that acknowledges no commit of a former primary, and none that a synchronous standby lacks."""

    __slots__ = ("_unconfirmed", "is_current")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_current: Callable[[], bool] = _always  # whether it leads to what is taken for the primary
        self._unconfirmed = False
        self.add_log_listener(_note)

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run SQL and return its status. After a COMMIT, raises OutcomeUnknown as `check_confirmed` does."""
        status: str = await super().execute(query, *arguments, timeout=timeout)
        if query.startswith("COMMIT"):
            self.check_confirmed()
        return status

    def check_confirmed(self) -> None:
        """Raise OutcomeUnknown if the last commit may be lost in a failover.

        It was reported before a synchronous standby had it, or another server has been found to be the primary.
        """
        if self._unconfirmed:
            self._unconfirmed = False
            raise OutcomeUnknown("no synchronous standby has confirmed the commit")
        if not self.is_current():
            raise OutcomeUnknown("another server has become the primary")


def _always() -> bool:
    return True


# asyncpg schedules this before it wakes up what waits for the statement: the warning precedes the commit's own answer.
def _note(connection: Any, message: asyncpg.PostgresLogMessage) -> None:
    if message.server_source_function == WAIT:
        connection._unconfirmed = True  # noqa: SLF001 - a ConfirmedConnection
        log.warning(
            "no synchronous standby has confirmed a commit: it is visible, a failover would lose it, and it is not"
            " acknowledged; pg_stat_replication shows which standbys are connected"
        )


async def cancel_and_close(connection: ConfirmedConnection) -> None:
    """Close a connection whose statement was given up, so that its server does not go on with it for nobody.

    `terminate` would throw away the request to cancel that asyncpg makes after a timeout, and a server does not notice
    that the client of a waiting commit has gone: the backend stays, with its locks (asyncpg 0.32, PostgreSQL 18).
    """
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=CANCEL_TIMEOUT_S)
