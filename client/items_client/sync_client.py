"""The client for programs without an event loop: the same methods, which wait.

One event loop in a thread of its own serves all threads that call.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from ssl import SSLContext
from threading import Thread
from typing import Any, Self, TypeVar

from .client import CONNECTIONS_MAX, TIMEOUT_S, Client
from .sync_resources import SyncItems, SyncUsers
from .tracing import trace_headers

R = TypeVar("R")


class LoopThread:
    """A thread that runs an event loop from entering the block until leaving it."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="items-client", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in the loop, in this thread's context, and wait for its result; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, pages: "AsyncIterator[list[R]]") -> Iterator[R]:
        """Yield the members of pages, each of which is fetched when it is needed."""
        while (page := self.run(_next(pages))) is not None:
            yield from page


class SyncClient:
    """A client of one service, there from entering the block until leaving it; any thread may use it.

    It takes what Client takes, and has the same methods.
    """

    items: SyncItems
    users: SyncUsers

    def __init__(  # noqa: PLR0913 - what a client can be told
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT_S,
        connections_max: int = CONNECTIONS_MAX,
        ssl_context: SSLContext | None = None,
        trace_headers: Callable[[], Mapping[str, str]] = trace_headers,
    ) -> None:
        self._client = Client(
            url,
            token=token,
            timeout=timeout,
            connections_max=connections_max,
            ssl_context=ssl_context,
            trace_headers=trace_headers,
        )
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            thread = opened.enter_context(LoopThread())
            thread.run(self._client.__aenter__())
            opened.callback(lambda: thread.run(self._client.__aexit__()))
            self.items = SyncItems(self._client.items, thread)
            self.users = SyncUsers(self._client.users, thread)
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()


async def _next(pages: "AsyncIterator[list[R]]") -> "list[R] | None":
    return await anext(pages, None)
