"""Signals before a service serves, and of every other command: Ctrl-C and SIGTERM end it within a second, silently.

The process may be the first one of a container, for which a signal without a handler is lost.
"""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

STOPS = (signal.SIGINT, signal.SIGTERM)
# How long what is cancelled may take to tell the database, and to close its connections.
GRACE_S = 0.5


def exit_at_signals(*, serves: bool) -> None:
    """Exit at once at a signal from now on, as a shell reports it: with 128 and its number.

    SIGHUP has nothing to replace while a service starts, and must not end it; of other commands it is the terminal's.
    """
    if serves:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in STOPS:
        signal.signal(number, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine; a signal cancels it, and raises SystemExit: its statement must not go on."""
    return asyncio.run(_stoppable(work))


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has one
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        loop.call_later(GRACE_S, os._exit, 128 + number)
        task.cancel()

    before = {number: signal.getsignal(number) for number in STOPS}
    for number in STOPS:
        signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(stop, number))
    try:
        return await work
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
