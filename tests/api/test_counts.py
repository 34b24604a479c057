"""Counts read every row of a list: they wait for each other, and no other list waits for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from db.tables.pagination import KeysetPaginator, Query
from service.settings import Settings
from tests.support.resources import ResourceClient
from tests.support.responses import PATIENT, code, serving
from tests.support.waiting import LIMIT_S, until

Counting = list[Query]


class Slow:
    """Lists with a count, which do not end while they are to wait."""

    def __init__(self) -> None:
        self.counting: Counting = []
        self.over = asyncio.Event()

    @asynccontextmanager
    async def requests(self, client: httpx.AsyncClient, *urls: str) -> AsyncIterator["list[asyncio.Task[Any]]"]:
        """Send requests that count, and let their counts end on leaving the block."""
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.get(url)) for url in urls]
            try:
                await until(lambda: self.counting)
                yield tasks
            finally:
                self.over.set()


@pytest.fixture
async def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Let counts wait."""
    slow, fetch = Slow(), KeysetPaginator.fetch

    async def wait_and_fetch(paginator: KeysetPaginator, connection: Any, query: Query) -> Any:
        if query.count:
            slow.counting.append(query)
            await slow.over.wait()
        return await fetch(paginator, connection, query)

    monkeypatch.setattr(KeysetPaginator, "fetch", wait_and_fetch)
    return slow


async def test_a_list_does_not_wait_for_counts_however_many_there_are(
    client: httpx.AsyncClient, resource: ResourceClient, slow: Slow
) -> None:
    rows = await resource.create(count=3)
    counted = [f"{path}?count=true&limit={n}" for path in (resource.path, "/items", "/users") for n in range(1, 5)]
    async with slow.requests(client, *counted) as tasks:
        assert (await client.get(resource.path)).json() == rows
        assert (await client.get(f"{resource.path}?limit=1&order=-id")).json() == rows[-1:]
        assert len(slow.counting) == 1  # of all tables together
    assert [task.result().status_code for task in tasks] == [200] * len(counted)
    assert tasks[0].result().headers["x-total-count"] == "3"


async def test_counts_have_a_queue_of_their_own(database_url: str, slow: Slow) -> None:
    settings = Settings(database_url=database_url, **{**PATIENT, "queue_length_max": 2})
    urls = [f"/items?count=true&limit={n}" for n in range(1, 6)]
    async with serving(settings) as client, slow.requests(client, *urls) as tasks:
        await until(lambda: [task for task in tasks if task.done()])
        assert (await client.get("/items")).status_code == 200
    refused = [code(task.result()) for task in tasks if not task.result().is_success]
    assert refused in ([(503, "overloaded")] * 2, [(503, "overloaded")] * 3)
