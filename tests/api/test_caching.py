"""Caches: a response of the service is never used again without asking it (RFC 9111)."""

import asyncio
from itertools import product
from typing import Any

import httpx
import pytest

from service.http import problems
from service.http.middleware import PROBES
from service.http.operation import Operation, Resource
from service.http.probe import Probe
from service.http.problems import ProblemError, ProblemType, render
from service.routes import ROUTES
from tests.api.test_problems import words
from tests.support.documented import DOCUMENT, resolved
from tests.support.resources import RESOURCES, ResourceClient
from tests.support.responses import ENCODE, JSON, code

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

KINDS = [
    *(value for value in vars(problems).values() if isinstance(value, ProblemType)),
    *(problems.not_found("item"), problems.stale("item"), problems.already_exists("user"), problems.owned("items")),
]
LAMP = {"name": "lamp", "price": 9.5}
OPERATIONS = [
    pytest.param(route.path, method, operation, id=f"{method} {route.path}")
    for route in ROUTES
    if isinstance(route.endpoint, Resource)
    for method, operation in route.endpoint.operations.items()
]


def requests(path: str, method: str) -> list[dict[str, Any]]:
    """Return an operation's requests out of its examples: one for each form of its body, or one without."""
    described = DOCUMENT["paths"][path][method.lower()]
    query: dict[str, str] = {}
    for parameter in map(resolved, described["parameters"]):
        if parameter["required"]:
            example = parameter["schema"]["examples"][0]
            text = ",".join(map(str, example)) if isinstance(example, list) else str(example)
            path = path.replace(f"{{{parameter['name']}}}", text)
            query |= {parameter["name"]: text} if parameter["in"] == "query" else {}
    target = {"method": method, "url": path, "params": query}
    bodies = described.get("requestBody", {"content": {JSON: {"examples": {}}}})["content"][JSON]["examples"]
    return [target | {"json": body["value"]} for body in bodies.values()] or [target]


def cache_control(response: httpx.Response) -> list[str]:
    """Return the directives for caches."""
    return response.headers.get_list("cache-control")


@on_sqlite
@pytest.mark.parametrize("media_type", ENCODE)
async def test_no_success_of_a_resource_is_used_again_without_asking(resource: ResourceClient, media_type: str) -> None:
    for request in resource.reads(*await resource.create(count=2)):
        for method in ("GET", "HEAD"):
            response = await resource.send(request._replace(method=method), media_type)
            assert (response.status_code, cache_control(response)) == (200, ["no-cache"])
            if "etag" in response.headers:
                unchanged = await resource.send(request, media_type, **{"if-none-match": response.headers["etag"]})
                assert (unchanged.status_code, cache_control(unchanged)) == (304, ["no-cache"])
    async for request, status in resource.each_write():
        response = await resource.send(request, media_type)
        assert (response.status_code, cache_control(response)) == (status, ["no-cache"]), request


@on_sqlite
@pytest.mark.parametrize("path", [path for path, one in RESOURCES.items() if not one.noun])
async def test_a_probe_is_not_stored(client: httpx.AsyncClient, path: str) -> None:
    for method, accept in product(("GET", "HEAD"), ENCODE):
        response = await client.request(method, path, headers={"accept": accept})
        assert response.status_code == 200
        assert cache_control(response) == ["no-store" if path in PROBES else "no-cache"]


@on_sqlite
@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
async def test_every_problem_of_an_operation_is_stored_by_no_cache(
    client: httpx.AsyncClient, path: str, method: str, operation: Operation
) -> None:
    wrongs: list[dict[str, Any]] = [
        {"headers": {"accept": "text/html"}},
        {"headers": {"accept": "*/*," * 1000}},
        {"headers": {"x-request-timeout": "soon"}},
        {"params": {"colour": "red"}},
        {"method": "BREW"},
        *([{"content": b"{", "json": None, "headers": {"content-type": JSON}}] if operation.body else []),
        *([{"content": b"", "json": None}] if operation.body else []),
        *([{}] if operation.path else []),  # there is no item
    ]
    for request in requests(path, method):
        for wrong in [{"method": "BREW"}] if isinstance(operation, Probe) else wrongs:
            response = await client.request(**request | wrong)
            assert code(response)[0] < 500
            assert cache_control(response) == ["no-store"], wrong


@on_sqlite
async def test_a_replayed_response_has_the_directives_of_the_first(client: httpx.AsyncClient) -> None:
    writes: list[tuple[str, str, Any, str]] = [
        ("POST", "/items", LAMP, "no-cache"),
        ("PATCH", "/items/1", {"price": 1}, "no-cache"),
        ("PATCH", "/items/9", {"price": 1}, "no-store"),
        ("DELETE", "/items/1", None, "no-cache"),
    ]
    for method, url, body, directives in writes:
        key = {"idempotency-key": method + url}
        first, again = [await client.request(method, url, json=body, headers=key) for _ in range(2)]
        assert again.headers["idempotency-replayed"] == "true"
        assert cache_control(first) == cache_control(again) == [directives], (method, url)


@on_sqlite
async def test_where_nothing_is_no_cache_stores_that(client: httpx.AsyncClient) -> None:
    for method in ("GET", "HEAD", "POST"):
        for path in ("/", "/items/", "/items/x", "/favicon.ico"):
            response = await client.request(method, path)
            assert (response.status_code in {404, 405}, cache_control(response)) == (True, ["no-store"])


def test_every_kind_of_problem_is_stored_by_no_cache() -> None:
    for error in [*(ProblemError(kind, "It is.") for kind in KINDS), *words("it is"), ValueError()]:
        headers = render(error, "abc").headers
        assert [value for name, value in headers if name == b"cache-control"] == [b"no-store"]


@on_sqlite
@pytest.mark.parametrize("settings", [{"requests_max": 1}], indirect=True)
async def test_a_refusal_for_want_of_room_is_stored_by_no_cache(client: httpx.AsyncClient) -> None:
    responses = await asyncio.gather(*(client.get("/items") for _ in range(8)))
    refused = [response for response in responses if response.status_code == 503]
    assert refused
    assert [cache_control(response) for response in refused] == [["no-store"]] * len(refused)
