"""A transaction of SQLite whose time is over leaves the database as it was, to all others."""

import asyncio
from typing import Any

import pytest

from service.settings import Settings
from tests.support.responses import create_batch, serving

NEW = {"name": "lamp", "price": 9.5}
WRITES = 60


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("key", [False, True], ids=["batch", "under a key"])
@pytest.mark.parametrize("place", ["file", "memory"])
async def test_transactions_whose_time_is_over_neither_lock_nor_lose_the_database(
    database_url: str, place: str, *, key: bool
) -> None:
    url = database_url if place == "file" else "sqlite+aiosqlite://"
    async with serving(Settings(database_url=url)) as client:
        items = await create_batch(client, [NEW] * 3)
        for number in range(WRITES):
            headers = {"x-request-timeout": f"0.00{number % 6 + 1}"}
            body: Any = {"price": number}
            if key:
                headers["idempotency-key"] = f"{number}"
                await client.patch(f"/items/{items[0]['id']}", json=body, headers=headers)
            else:
                await client.patch("/items", json=[{"id": item["id"], **body} for item in items], headers=headers)
        async with asyncio.timeout(4):  # SQLite waits five seconds for a lock
            assert (await client.post("/items", json=NEW)).status_code == 201
        assert len((await client.get("/items")).json()) == len(items) + 1
