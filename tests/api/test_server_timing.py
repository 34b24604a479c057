"""Server-Timing: how long a response took, where that is switched on."""

import asyncio
import re

import httpx
import pytest

from tests.support.responses import create_item, problem

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

TOTAL = re.compile(r"total;dur=(\d+\.\d{3})")


@pytest.mark.parametrize("settings", [{"server_timing": True}], indirect=True)
async def test_every_response_says_how_long_it_took(client: httpx.AsyncClient) -> None:
    await create_item(client)
    for path, status in (("/items/1", 200), ("/items/2", 404), ("/livez", 200), ("/items?limit=0", 400)):
        response = await client.get(path)
        assert response.status_code == status
        match = TOTAL.match(response.headers["server-timing"])
        assert match is not None, response.headers["server-timing"]
        assert 0 < float(match[1]) <= response.elapsed.total_seconds() * 1000
    assert problem(await client.get("/nowhere"))["code"] == "no-such-path"


async def test_otherwise_no_response_says_it(client: httpx.AsyncClient) -> None:
    assert "server-timing" not in (await client.get("/livez")).headers


@pytest.mark.parametrize("settings", [{"server_timing": True}], indirect=True)
async def test_a_response_that_waited_for_a_batch_says_how_long_and_how_long_that_took(
    client: httpx.AsyncClient,
) -> None:
    await create_item(client)
    of_batches = re.compile(r"total;dur=([\d.]+), wait;dur=([\d.]+), statement;dur=([\d.]+)")
    responses = await asyncio.gather(*(client.get("/items/1") for _ in range(8)))
    for response in responses:
        match = of_batches.fullmatch(response.headers["server-timing"])
        assert match is not None, response.headers["server-timing"]
        total, wait, statement = map(float, match.groups())
        assert 0 <= wait < total
        assert statement > 0
        assert wait + statement <= total + 0.002  # each is rounded
    assert TOTAL.fullmatch((await client.get("/livez")).headers["server-timing"])
