"""A server that is silent, such as a frozen one, is not buried under attempts to connect: it has to serve them all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from db.engines.single_flight import SingleFlight
from service.settings import Settings
from tests.db.test_outage import requests
from tests.support.postgres import HOST
from tests.support.responses import code, serving
from tests.support.waiting import LIMIT_S, until

LIMITS: dict[str, Any] = {"connect_timeout_ms": 100, "pool_wait_ms": 60_000}
SEVERAL = 4
TOGETHER_MAX = 2  # one that begins, and one whose end is not noticed yet


class SilentServer:
    """What accepts connections, never sends anything, and counts them."""

    def __init__(self) -> None:
        self.open = self.together_max = self.accepted = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._hangs_up = False

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen on a port, which is returned."""
        server = await asyncio.start_server(self._keep, HOST, 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    def hang_up(self) -> None:
        """End all connections, and from now on each at once."""
        self._hangs_up = True
        for writer in self._writers:
            writer.close()

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.together_max = max(self.together_max, self.open)
        self._writers.append(writer)
        try:
            if not self._hangs_up:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.mark.parametrize("hosts", [1, 2])
async def test_while_a_server_is_silent_one_attempt_to_connect_at_a_time_is_made(hosts: int) -> None:
    silent = SilentServer()
    async with silent.listening() as port:
        places = ",".join([f"{HOST}:{port}"] * hosts)
        url = f"postgresql+asyncpg://postgres@/postgres?host={places}&ssl=disable"
        async with serving(Settings(database_url=url, **LIMITS)) as client:
            await until(lambda: silent.open <= 1)  # those of the start, which were made at the same time
            silent.together_max = silent.accepted = 0
            for responses in await asyncio.gather(*(requests(client, LIMIT_S) for _ in range(SEVERAL))):
                assert {code(response)[0] for response in responses} == {503}
            await until(lambda: silent.accepted > 1)
            assert silent.together_max <= TOGETHER_MAX


async def test_a_start_tries_all_connections_at_the_same_time() -> None:
    silent = SilentServer()
    async with silent.listening() as port:
        url = f"postgresql+asyncpg://postgres@{HOST}:{port}/postgres?ssl=disable"
        settings = Settings(database_url=url, connect_timeout_ms=60_000)

        async def start() -> None:
            async with serving(settings):
                pass

        starting = asyncio.create_task(start())
        await until(lambda: silent.open == settings.batch_connections)
        silent.hang_up()
        await starting


async def test_an_attempt_that_is_given_up_fails_none_that_waits_for_it() -> None:
    attempts, begun = SingleFlight(), asyncio.Event()

    async def connect(end: asyncio.Event) -> str:
        async with attempts.attempt():
            begun.set()
            await end.wait()
            return "connected"

    with pytest.raises(ConnectionError, match="refused"):
        async with attempts.attempt():
            raise ConnectionError("refused")
    ended = asyncio.Event()
    ended.set()
    first = asyncio.create_task(connect(asyncio.Event()))
    await begun.wait()
    others = [asyncio.create_task(connect(ended)) for _ in range(SEVERAL)]
    await asyncio.sleep(0)  # they wait now
    first.cancel()
    assert await asyncio.gather(*others) == ["connected"] * SEVERAL
