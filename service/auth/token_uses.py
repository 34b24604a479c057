"""When tokens were used last: collected by each worker, and written now and then, not by every request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from db.tables.call import Call

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
TOKENS_MAX = 20_000  # used within the interval; then they are written at once
WRITE_TIMEOUT_S = 5.0

# Stores when tokens were used last, by id. Raises the errors of db.errors.
Record = Callable[[Call, Mapping[int, datetime]], Awaitable[object]]


class TokenUses:
    """Collects when tokens were used, and writes it once in INTERVAL_S, and at the end."""

    def __init__(self, record: Record) -> None:
        self.pending: dict[int, float] = {}  # by token, as the wall's clock has it; the hot path writes here
        self._record = record
        self._is_full = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to write."""
        self._writer = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is pending, and stop."""
        if self._writer is not None:
            self._writer.cancel()
            with suppress(asyncio.CancelledError):
                await self._writer
        await self.write()

    def limit(self) -> None:
        """Have what is pending written now if it is too much."""
        if len(self.pending) >= TOKENS_MAX:
            self._is_full.set()

    async def write(self) -> None:
        """Write what is pending; what cannot be written stays, unless it is too much."""
        if not self.pending:
            return
        uses, self.pending = self.pending, {}
        try:
            times = {id: datetime.fromtimestamp(used_at, UTC) for id, used_at in uses.items()}
            await self._record(Call().within(WRITE_TIMEOUT_S), times)
        except asyncio.CancelledError:
            self.pending = {**uses, **self.pending}
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, those of the next minute are to be written
            log.warning("the last uses of %d tokens could not be recorded: %s", len(uses), error)
            if len(uses) < TOKENS_MAX:
                self.pending = {**uses, **self.pending}

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._is_full.wait()
            self._is_full.clear()
            await self.write()
