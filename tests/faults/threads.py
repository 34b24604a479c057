"""An event loop in a thread of its own, for tools that tests use without one."""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, Self, TypeVar

T = TypeVar("T")

LIMIT_S = 15.0


class LoopThread:
    """A thread that runs an event loop from entering the block until leaving it."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="faults", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT_S)
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], limit_s: float = LIMIT_S) -> T:
        """Run a coroutine in the loop, and wait for its end. Raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(limit_s)


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
