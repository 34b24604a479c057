"""Commits that PostgreSQL has made, and that no synchronous standby has confirmed.

A commit that waits for a standby is over for its server as soon as the wait is cancelled, by a driver whose time is up
or by an administrator. It is then reported as a success, is visible to everyone, and is lost in a failover; only a
warning says so. A connection here takes that warning for what it means. And whoever looks for the record of an earlier
commit writes to it: a write waits for the standby, which has everything before it by then, while a read, or an INSERT
… ON CONFLICT DO NOTHING, waits for nobody.
"""

import logging
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


class ReplicatedConnection(asyncpg.Connection):
    """A connection that takes no commit for one that a synchronous standby has not confirmed."""

    __slots__ = ("_unconfirmed",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._unconfirmed = False
        self.add_log_listener(_note)

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """Run SQL, a COMMIT among it, and return its status. Raises OutcomeUnknown, as `check_confirmed` does."""
        status: str = await super().execute(query, *arguments, timeout=timeout)
        self.check_confirmed()
        return status

    def check_confirmed(self) -> None:
        """Raise OutcomeUnknown if the last commit was reported before a synchronous standby had it."""
        if self._unconfirmed:
            self._unconfirmed = False
            raise OutcomeUnknown("no synchronous standby has confirmed the commit")


def _note(connection: Any, message: asyncpg.PostgresLogMessage) -> None:
    if message.server_source_function == WAIT:
        connection._unconfirmed = True  # noqa: SLF001 - a ReplicatedConnection
        log.warning("a write waits for a synchronous standby, and its wait was given up: no synchronous standby has it")


async def cancel_and_close(connection: ReplicatedConnection) -> None:
    """Close a connection whose statement was given up, so that its server does not go on with it for nobody.

    `terminate` would throw away the request to cancel that asyncpg makes after a timeout, and a server does not notice
    that the client of a waiting commit has gone: the backend stays, with its locks (asyncpg 0.32, PostgreSQL 18).
    """
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=CANCEL_TIMEOUT_S)
