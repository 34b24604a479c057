"""Every response may be sniffed by no browser, says what caches may do, and names no product or version of a server."""

from typing import Any

import httpx
import pytest

from service.http.operation import Operation
from service.settings import Settings
from tests.api.test_caching import OPERATIONS, requests
from tests.support.responses import execute, serving

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def check(response: httpx.Response) -> None:
    """Assert that a response has each header once, and nothing that says what made it."""
    headers = response.headers
    assert headers.get_list("x-content-type-options") == ["nosniff"], response.request
    assert headers.get_list("cache-control") in (["no-cache"], ["no-store"]), response.request
    assert (headers.get_list("server"), "x-powered-by" in headers) == (["items-service"], False)


@on_sqlite
@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
async def test_whatever_becomes_of_a_request(
    client: httpx.AsyncClient, database_url: str, path: str, method: str, operation: Operation
) -> None:
    settings = Settings(database_url=database_url, auth=frozenset({"tokens"}))
    async with serving(settings) as closed:
        for request in requests(path, method):
            for wrong in ({}, {"method": "BREW"}, {"params": {"colour": "red"}}, {"headers": {"accept": "text/html"}}):
                for each in (client, closed):
                    check(await each.request(**request | wrong))
            unauthenticated = await closed.request(**request)
            assert operation.scope is None or unauthenticated.status_code == 401


@on_sqlite
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "TRACE"])
async def test_where_there_is_nothing_and_where_the_service_fails(
    client: httpx.AsyncClient, database_url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_headers: Any) -> None:
        raise RuntimeError

    check(await client.request(method, "/nowhere"))
    await execute(database_url, "ALTER TABLE items RENAME TO things")
    check(await client.request(method, "/items"))
    monkeypatch.setattr("service.http.operation.combined", fail)
    response = await client.get("/users/1")
    assert response.status_code == 500
    check(response)
