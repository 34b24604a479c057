"""Connections that die without a word: the kernel finds them, whether they are idle or wait for a result."""

import asyncio
import sys
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import make_url

from service.settings import Settings
from tests.db.test_outage import LAMP, recovered, requests
from tests.faults.proxy import Proxy
from tests.support.postgres import HOST
from tests.support.responses import PATIENT, serving
from tests.support.serving import ServiceProcess
from tests.support.waiting import LIMIT_S, until, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the options of sockets are Linux's"),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with Proxy(HOST, make_url(database_url).port or 0) as proxy:
        yield proxy


async def test_idle_connections_that_died_silently_are_replaced_before_they_are_needed(
    proxy: Proxy, database_url: str
) -> None:
    async with serving(Settings(database_url=proxy.url(database_url), **PATIENT)) as client:
        await recovered(client)
        changes = (client.patch("/items", json=[{"id": 1, "price": 1}]) for _ in range(8))
        await asyncio.gather(*changes)  # which fills the pool
        before = proxy.connections
        await asyncio.to_thread(proxy.lose_all)
        # The pool's are closed when they are borrowed; those of the batches are replaced by themselves.
        await until(lambda: proxy.connections.total >= before.total + Settings().batch_connections)
        for response in await requests(client):
            assert response.status_code in {200, 201, 404}


async def test_requests_on_connections_that_died_silently_have_their_response(proxy: Proxy, database_url: str) -> None:
    async with serving(Settings(database_url=proxy.url(database_url), **PATIENT)) as client:
        await recovered(client)
        await asyncio.to_thread(proxy.lose_all)
        for response in await requests(client, LIMIT_S):
            assert response.status_code in {200, 201, 404}


def test_a_service_finds_them_too_by_its_own_event_loop(proxy: Proxy, database_url: str) -> None:
    limits = {"ITEMSVC_STATEMENT_TIMEOUT_MS": "60000", "ITEMSVC_REQUEST_TIMEOUT_MS": "60000"}
    with ServiceProcess(proxy.url(database_url), workers=1, **limits) as service:
        before = proxy.connections
        proxy.lose_all()
        wait_until(lambda: proxy.connections.total >= before.total + Settings().batch_connections)
        assert httpx.post(f"{service.url}/items", json=LAMP, timeout=LIMIT_S).status_code == 201
