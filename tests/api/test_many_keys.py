"""How many idempotency keys are remembered is bounded: a write with another one is refused, and nothing else is."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.support.responses import code, create_item, everything, execute, problem, serving
from tests.support.waiting import LIMIT_S

LAMP = {"name": "lamp", "price": 9.5}
KEYS_MAX = 3
REFUSED = (503, "overloaded")
numbers = itertools.count()


@pytest.fixture
async def client(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a service that counts its keys before each write with one."""
    monkeypatch.setattr("db.transactions.idempotency.COUNT_INTERVAL_S", 0)
    async with serving(Settings(database_url=database_url, idempotency_keys_max=KEYS_MAX)) as client:
        yield client


async def send(client: httpx.AsyncClient, key: str, method: str = "POST", body: Any = LAMP) -> httpx.Response:
    return await client.request(method, "/items", json=body, headers={"idempotency-key": key})


async def send_until(client: httpx.AsyncClient, status: int) -> tuple[str, httpx.Response]:
    """Send with one new key after the other until a response has that status: PostgreSQL counts with a delay."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            key = f"another-{next(numbers)}"
            response = await send(client, key)
            assert response.status_code == 201 or code(response) == REFUSED
            if response.status_code == status:
                return key, response


@pytest.mark.parametrize("body", [LAMP, [LAMP, LAMP]], ids=["one", "batch"])
async def test_with_too_many_keys_only_a_write_with_a_new_one_is_refused(client: httpx.AsyncClient, body: Any) -> None:
    first = await send(client, "first", body=body)
    for number in range(KEYS_MAX - 1):
        assert (await send(client, str(number))).status_code == 201
    _, refused = await send_until(client, 503)
    assert (problem(refused)["retryable"], "without one" in problem(refused)["detail"]) == (True, True)
    before = await everything(client)
    assert code(await send(client, "new", body=body)) == REFUSED
    assert code(await send(client, "new", "PATCH", [{"id": before[0]["id"], "price": 1}])) == REFUSED
    assert code(await send(client, "new", "PATCH", [{"id": 999, "price": 1}])) == REFUSED  # a refusal is kept, too
    assert await everything(client) == before
    assert (await send(client, "first", body=body)).content == first.content
    assert code(await send(client, "first", body={**LAMP, "price": 1})) == (422, "idempotency-key-reused")
    await create_item(client)


async def test_new_keys_are_accepted_again_when_others_have_expired(
    client: httpx.AsyncClient, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="db.transactions.idempotency")
    key, _ = await send_until(client, 503)
    await execute(database_url, "DELETE FROM idempotency_keys")
    await send_until(client, 201)
    assert (await send(client, key)).status_code == 201
    [refusing, accepting] = [record.getMessage() for record in caplog.records if record.name.startswith("db.")]
    assert (refusing.split(":")[0], accepting) == (
        "writes with new idempotency keys are refused",
        "writes with new idempotency keys are accepted again",
    )
