"""A proxy between the service and PostgreSQL, that does what networks and failing servers do."""

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, Self

from sqlalchemy import make_url

from tests.faults.conditions import Armed, CommitPhase, Conditions, Cut, Rules
from tests.faults.link import Link, close
from tests.faults.threads import LoopThread

HOST = "127.0.0.1"


class Connections(NamedTuple):
    """How many connections there are, and were."""

    open: int
    total: int


class Proxy:
    """A proxy in front of a server, there from entering the block until leaving it; any thread may change it."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._address = host, port
        self._conditions = Conditions(seed)
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._total = 0
        self._failures: list[BaseException] = []
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._thread = opened.enter_context(LoopThread())
            self._server = self._thread.run(asyncio.start_server(self._accept, HOST, 0))
            opened.callback(lambda: self._thread.run(self._close()))
            self.port: int = self._server.sockets[0].getsockname()[1]
            self._resources = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    @property
    def rules(self) -> Rules:
        """What holds now."""
        return self._conditions.rules

    @property
    def cuts(self) -> list[Cut]:
        """What was cut so far."""
        return list(self._conditions.cuts)

    @property
    def armed(self) -> int:
        """How many cuts are still to come."""
        return sum(armed.count for armed in self._conditions.armed)

    @property
    def connections(self) -> Connections:
        """How many connections clients have, and had."""
        return self._thread.run(self._count())

    def url(self, database_url: str) -> str:
        """Return the address of a database as it is through the proxy."""
        return make_url(database_url).set(host=HOST, port=self.port).render_as_string(hide_password=False)

    def set(self, **changes: Any) -> None:
        """Change rules, by their names in Rules; it holds for open connections, too, once this returns."""
        self._thread.run(self._change(replace(self.rules, **changes)))

    def cut(self, phase: CommitPhase, count: int = 1, matching: str | None = None) -> None:
        """Drop the next connections that commit: before the server hears of it, while it does it, or after it said so.

        With `matching`, a regular expression, only where it is found in a statement that is committed.
        """
        armed = Armed(phase, count, re.compile(matching) if matching else None)
        self._thread.run(self._arm(armed))

    def clear(self) -> None:
        """End all rules, and call off the cuts that are still to come."""
        self._thread.run(self._clear())

    def move(self, host: str, port: int) -> None:
        """Lead new connections elsewhere; those that are open stay."""
        self._address = host, port

    def reset_all(self) -> None:
        """Reset every connection."""
        self._thread.run(self._reset_all())

    def lose_all(self) -> None:
        """Let the kernel drop all that arrives from the clients of open connections, and acknowledge nothing."""
        self._thread.run(self._lose_all())

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.rules.refusing:
            close(writer)
            return
        self._total += 1
        link = Link(reader, writer, self._conditions)
        task = self._links[link] = link.start(*self._address)
        task.add_done_callback(lambda _: self._forget(link))

    def _forget(self, link: Link) -> None:
        task = self._links.pop(link)
        if not task.cancelled() and (failure := task.exception()):
            self._failures.append(failure)  # the proxy's own

    async def _change(self, rules: Rules) -> None:
        was_black_hole = self.rules.black_hole
        if was_black_hole and not rules.black_hole and not rules.resuming:
            await self._reset_all()
        self._conditions.change(rules)

    async def _arm(self, armed: Armed) -> None:
        self._conditions.armed.append(armed)

    async def _clear(self) -> None:
        self._conditions.armed.clear()
        await self._change(Rules())

    async def _reset_all(self) -> None:
        tasks = list(self._links.values())
        for link in list(self._links):
            link.drop(reset=True)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lose_all(self) -> None:
        for link in list(self._links):
            await link.lose()

    async def _count(self) -> Connections:
        return Connections(sum(link.is_open for link in self._links), self._total)

    async def _close(self) -> None:
        self._server.close()
        await self._reset_all()
        await self._server.wait_closed()
        for failure in self._failures:
            raise failure
