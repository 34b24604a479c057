"""Attempts to connect: while they fail, one at a time is made, and all others that would be made share its error.

A server that is frozen still accepts connections, by its system, and keeps those that their clients have given up long
ago in its queue. When it goes on it starts a process for each of them, one after the other, before it serves anybody.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from db.errors import is_connection_lost


class SingleFlight:
    """Lets any number of attempts run at the same time after a success, and one after a failure."""

    def __init__(self) -> None:
        self._failing = False
        self._attempt: asyncio.Future[str] | None = None  # the only one; its result is its error, empty if it has none

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Make an attempt within the block, or raise ConnectionError with the error of the one that was under way."""
        while self._attempt is not None:
            if error := await asyncio.shield(self._attempt):
                raise ConnectionError(error)
        only = self._attempt = asyncio.get_running_loop().create_future() if self._failing else None
        shared = ""
        try:
            yield
            self._failing = False
        except Exception as error:
            self._failing = is_connection_lost(error)
            if self._failing:
                shared = str(error) or type(error).__name__
            raise
        finally:
            if only is not None:
                self._attempt = None
                only.set_result(shared)
