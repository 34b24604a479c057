"""Pages that are asked for at the same time share statements: each is as it is alone."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from db.tables.batched_pages import PAGE_ROWS_MAX, PAGES_MAX, BatchedPages
from db.tables.pagination import Query
from db.tables.storage import LIST_CONNECTIONS
from service.settings import Settings
from tests.support.resources import ResourceClient
from tests.support.responses import next_url
from tests.support.waiting import LIMIT_S, PAUSE_S

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
LIMITS = (1, 7, PAGE_ROWS_MAX, PAGE_ROWS_MAX + 1)


async def walk(client: httpx.AsyncClient, url: str) -> dict[str, httpx.Response]:
    """Return the pages of a list, one after the other, by their URLs."""
    found: dict[str, httpx.Response] = {}
    following: str | None = url
    while following:
        found[following] = await client.get(following)
        following = next_url(found[following])
    return found


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many pages each statement has read."""
    sizes: list[int] = []
    fetch = BatchedPages.fetch

    async def fetch_and_count(pages: BatchedPages, connection: Any, queries: Sequence[Query]) -> Any:
        sizes.append(len(queries))
        return await fetch(pages, connection, queries)

    monkeypatch.setattr(BatchedPages, "fetch", fetch_and_count)
    return sizes


async def test_pages_at_the_same_time_are_as_they_are_alone(
    resource: ResourceClient, client: httpx.AsyncClient, sizes: list[int]
) -> None:
    await resource.create(count=PAGE_ROWS_MAX + 30)
    alone: dict[str, httpx.Response] = {}
    for order in resource.collection.orders:
        for limit in LIMITS:
            alone |= await walk(client, f"{resource.path}?limit={limit}&order={order}")
    assert sizes.count(1) == len(sizes)
    urls = list(alone)
    Random(1).shuffle(urls)  # noqa: S311 - no secret
    together = await asyncio.gather(*map(client.get, urls))
    for url, response in zip(urls, together, strict=True):
        assert response.json() == alone[url].json(), url
        assert response.headers.get("link") == alone[url].headers.get("link"), url
    assert max(sizes) == PAGES_MAX


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("settings", [{"coalesce": False}], indirect=True)
async def test_without_coalescing_a_page_waits_for_no_other_while_there_is_a_connection(
    client: httpx.AsyncClient, database_url: str, settings: Settings
) -> None:
    count = settings.batch_connections - LIST_CONNECTIONS
    engine = create_async_engine(database_url)
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("LOCK TABLE items")
            pages = [asyncio.ensure_future(client.get(f"/items?limit={limit}")) for limit in range(1, count + 1)]
            async with asyncio.timeout(LIMIT_S):
                while await connection.scalar(WAITING) < count:  # noqa: ASYNC110 - nobody is there to set an event
                    await asyncio.sleep(PAUSE_S)
        assert {response.status_code for response in await asyncio.gather(*pages)} == {200}
    finally:
        await engine.dispose()
