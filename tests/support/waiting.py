"""Waiting for what happens elsewhere: for a condition, with a bound, and never for a time."""

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 15.0
PAUSE_S = 0.002


async def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Let other tasks run until the condition is true."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - nobody is there to set an event
            await asyncio.sleep(PAUSE_S)


def wait_until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s} s")
        time.sleep(PAUSE_S)
