"""Callers over a limit have a 429, or a 503 over their share of the worker; other callers are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from msgspec.structs import replace

from service.auth.caller_limits import CallerLimits
from service.quotas import Quotas
from service.settings import Settings
from service.worker_state import WorkerState
from tests.support.callers import Clock
from tests.support.documented import check_response
from tests.support.responses import code, problem
from tests.support.tokens import MemoryTokens, bearer, serving_callers

ADA, BOB = 1, 2


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@asynccontextmanager
async def limited(
    settings: Settings, tokens: MemoryTokens, per_s: str, at_once: str = "0", clock: Clock | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a service with limits: by its settings, or by a clock that a test moves."""
    quotas = Quotas.read(per_s), Quotas.read(at_once)
    set_up = replace(
        settings, auth=frozenset({"tokens"}), caller_requests_per_s=quotas[0], caller_requests_max=quotas[1]
    )
    limits = CallerLimits(WorkerState(), settings.requests_max, *quotas, clock=clock) if clock else None
    async with serving_callers(set_up, tokens, limits) as client:
        yield client


async def test_who_is_over_the_limit_has_a_429_and_another_caller_is_served(
    settings: Settings, tokens: MemoryTokens, clock: Clock
) -> None:
    ada, bob = bearer(tokens.issue(ADA)), bearer(tokens.issue(BOB))
    async with limited(settings, tokens, "3", clock=clock) as client:
        for remaining in (2, 1, 0):
            served = await client.get("/items", headers=ada)
            assert (served.status_code, served.headers["ratelimit"]) == (200, f'"requests";r={remaining};t=1')
            await check_response(served)
        response = await client.post("/items", json={"name": "lamp", "price": 1}, headers=ada)
        await check_response(response)
        assert problem(response)["retryable"]
        assert code(response) == (429, "too-many-requests")
        assert response.headers["retry-after"] == "1"
        assert response.headers["ratelimit-policy"] == '"requests";q=3;w=1'
        assert response.headers["ratelimit"] == '"requests";r=0;t=1'
        assert (await client.get("/items", headers=bearer(tokens.issue(ADA)))).status_code == 429  # another token
        assert (await client.get("/items", headers=bob)).json() == []
        clock.now += 1
        assert (await client.get("/items", headers=ada)).status_code == 200


async def test_a_request_that_may_not_be_made_counts_and_one_without_a_valid_token_does_not(
    settings: Settings, tokens: MemoryTokens, clock: Clock
) -> None:
    reader = bearer(tokens.issue(ADA, "reader"))
    async with limited(settings, tokens, "2", clock=clock) as client:
        for _ in range(5):
            assert (await client.get("/items")).status_code == 401
        forbidden = await client.delete("/items/1", headers=reader)
        assert (forbidden.status_code, forbidden.headers["ratelimit"]) == (403, '"requests";r=1;t=1')
        assert (await client.get("/items/777", headers=reader)).status_code == 404
        assert code(await client.delete("/items/1", headers=reader)) == (429, "too-many-requests")


async def test_probes_and_the_document_have_no_limit(settings: Settings, tokens: MemoryTokens, clock: Clock) -> None:
    ada = bearer(tokens.issue(ADA))
    async with limited(settings, tokens, "1", "1", clock) as client:
        for _ in range(5):
            for path in ("/livez", "/readyz", "/openapi.json"):
                response = await client.get(path, headers=ada)
                assert (response.status_code, "ratelimit" in response.headers) == (200, False)


async def test_what_is_stored_under_a_key_has_no_limits_of_then(
    settings: Settings, tokens: MemoryTokens, clock: Clock
) -> None:
    ada = {**bearer(tokens.issue(ADA, "admin")), "Idempotency-Key": "a"}
    async with limited(settings, tokens, "5", clock=clock) as client:
        body = {"name": "lamp", "price": 1}
        first, again = [await client.post("/items", json=body, headers=ada) for _ in range(2)]
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert [one.headers.get_list("ratelimit") for one in (first, again)] == [
        ['"requests";r=4;t=1'],
        ['"requests";r=3;t=1'],
    ]


async def test_a_request_counts_until_its_response_is_sent_and_before_its_body_is_read(
    settings: Settings, tokens: MemoryTokens
) -> None:
    ada, bob = bearer(tokens.issue(ADA, "admin")), bearer(tokens.issue(BOB, "admin"))
    began, sent = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        began.set()
        yield b'{"name": "lamp", '
        await sent.wait()
        yield b'"price": 1}'

    async with limited(settings, tokens, "0", "1") as client:
        headers = {**ada, "Content-Type": "application/json"}
        slow = asyncio.create_task(client.post("/items", content=body(), headers=headers))
        await began.wait()
        assert code(await client.get("/items", headers=ada)) == (429, "too-many-requests")
        assert (await client.get("/items", headers=bob)).status_code == 200
        sent.set()
        assert (await slow).status_code == 201
        assert (await client.get("/items", headers=ada)).status_code == 200


async def test_a_cancelled_request_counts_no_longer(settings: Settings, tokens: MemoryTokens) -> None:
    ada = bearer(tokens.issue(ADA, "admin"))
    started = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        started.set()
        await asyncio.Event().wait()
        yield b""

    async with limited(settings, tokens, "0", "1") as client:
        headers = {**ada, "Content-Type": "application/json"}
        slow = asyncio.create_task(client.post("/items", content=body(), headers=headers))
        await started.wait()
        slow.cancel()
        await asyncio.wait([slow])
        assert (await client.get("/items", headers=ada)).status_code == 200


async def test_one_caller_cannot_take_every_place_of_a_worker(settings: Settings, tokens: MemoryTokens) -> None:
    ada, bob = bearer(tokens.issue(ADA, "admin")), bearer(tokens.issue(BOB, "admin"))
    began: list[None] = []
    full, sent = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        began.append(None)
        if len(began) == 7:
            full.set()
        await sent.wait()
        yield b'{"name": "lamp", "price": 1}'

    async with limited(replace(settings, requests_max=8), tokens, "0") as client:
        headers = {**ada, "Content-Type": "application/json"}
        slow = [asyncio.create_task(client.post("/items", content=body(), headers=headers)) for _ in range(7)]
        await full.wait()
        assert code(await client.get("/items", headers=ada)) == (503, "overloaded")
        assert (await client.get("/items", headers=bob)).status_code == 200
        sent.set()
        assert [response.status_code for response in await asyncio.gather(*slow)] == [201] * 7
        assert (await client.get("/items", headers=ada)).status_code == 200
