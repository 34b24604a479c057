"""Large heads: what a header or an address costs is bounded, and so is what is said of it."""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.http.headers import combined
from service.http.media_types import HEADER_BYTES_MAX, for_content_type, negotiate
from service.http.middleware import LOGGED_CHARACTERS_MAX
from service.http.operation import Operation, Resource
from service.http.probe import Probe
from service.http.query import ESCAPES_MAX
from service.routes import ROUTES
from tests.support.resources import one_of_each
from tests.support.responses import JSON, code, create_item, everything, problem
from tests.support.token_calls import PASSWORD, user_with_password

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

HEAD_BYTES = 60_000  # nearly all that the server lets through
PROBLEM_BYTES_MAX = 16 * 1024
LAMP = b'{"name":"lamp","price":1}'


def filled(unit: bytes, size: int = HEAD_BYTES) -> bytes:
    """Repeat a unit up to a size."""
    return (unit * size)[:size]


def is_read(name: str, operation: Operation, method: str) -> bool:
    """Whether an operation parses a header."""
    read = {
        "accept": operation.has_content
        and not isinstance(operation, Probe),  # a probe disregards one that is too large
        "x-request-timeout": not isinstance(operation, Probe),
        "content-encoding": operation.body is not None,
        "content-type": operation.body is not None,
        "if-match": operation.conditional,
        "if-none-match": method == "GET" and all(operation.tagged),
    }
    return read[name]


OPERATIONS = [
    (method, route.path.replace("{id}", "1"), operation)
    for route in ROUTES
    if isinstance(route.endpoint, Resource)
    for method, operation in route.endpoint.operations.items()
]
CONTENTS: dict[str, list[bytes]] = {
    "accept": [b"a,", b",", b"*/*,", b"a;b=c,", b";", b"\xe9,"],
    "content-encoding": [b",", b"a,", b"identity,"],
    "content-type": [b"application/json;", b";", b"a,"],
    "if-match": [b",", b'"1",', b'"1-json",', b'"'],
    "if-none-match": [b",", b'"1",', b'"1-json",', b'"'],
    "x-request-timeout": [b"0", b"9", b"1."],
}
READ = [
    pytest.param(method, path, name, id=f"{method} {path} {name}")
    for method, path, operation in OPERATIONS
    for name in CONTENTS
    if is_read(name, operation, method)
]


async def send(client: httpx.AsyncClient, method: str, path: str, *headers: tuple[str, bytes]) -> httpx.Response:
    """Make a request that is whole but for some of its headers."""
    given = {name for name, _ in headers}
    pairs = [*headers, *([] if "content-type" in given else [("content-type", JSON.encode())])]
    content = LAMP if method in {"POST", "PUT", "PATCH"} else None
    raw = [(name.encode(), value) for name, value in pairs]
    return await client.request(method, path, content=content, headers=raw)


async def prepare(client: httpx.AsyncClient, path: str) -> None:
    """Create a row of every resource, and sign in where that comes before all else."""
    await one_of_each(client)
    if path == "/tokens":
        user = await user_with_password(client)
        client.auth = httpx.BasicAuth(user["username"], PASSWORD)


@on_sqlite
@pytest.mark.parametrize(("method", "path", "name"), READ)
async def test_a_header_that_is_too_large_to_be_read_is_refused(
    client: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    await prepare(client, path)
    items = await everything(client)
    for unit in CONTENTS[name]:
        for size in (HEADER_BYTES_MAX + 1, HEAD_BYTES):
            response = await send(client, method, path, (name, filled(unit, size)))
            assert code(response) == (431, "header-too-large"), (unit, size)
            body = problem(response)
            assert body["retryable"] is False
            assert body["detail"].lower() == f"{name} may have {HEADER_BYTES_MAX} bytes at most."
    assert await everything(client) == items


@on_sqlite
@pytest.mark.parametrize(("method", "path", "name"), READ)
async def test_a_header_may_be_as_large_as_the_bound(
    client: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    await prepare(client, path)
    for unit in CONTENTS[name]:
        response = await send(client, method, path, (name, filled(unit, HEADER_BYTES_MAX)))
        assert response.status_code != 431, unit


@on_sqlite
async def test_of_a_header_in_several_lines_all_of_them_count(client: httpx.AsyncClient) -> None:
    await create_item(client)
    lines = [("accept", b"*/*")] * (HEADER_BYTES_MAX // 5 + 2)
    assert code(await send(client, "GET", "/items", *lines)) == (431, "header-too-large")
    tags = [("if-none-match", b'"1-json"')] * (HEADER_BYTES_MAX // 10 + 1)
    assert code(await send(client, "GET", "/items/1", *tags)) == (431, "header-too-large")


@on_sqlite
async def test_what_is_not_read_may_be_large(client: httpx.AsyncClient) -> None:
    await create_item(client)
    for name in ("cookie", "x-request-id", "expect", "idempotency-key", "content-type", "content-encoding", "if-match"):
        assert (await send(client, "GET", "/items/1", (name, filled(b"a,")))).status_code == 200, name
    for name in ("accept", "x-request-timeout"):
        assert (await send(client, "GET", "/livez", (name, filled(b"a,")))).status_code == 200, name
    assert (await send(client, "DELETE", "/items/1", ("accept", filled(b"a,")))).status_code == 204


@on_sqlite
async def test_large_headers_are_not_remembered(client: httpx.AsyncClient) -> None:
    await send(client, "POST", "/items", ("accept", b"*/*"))
    before = negotiate.cache_info().currsize, for_content_type.cache_info().currsize
    large = b"application/json;" + filled(b"a=b;")
    await send(client, "GET", "/items", ("accept", filled(b"*/*,")))
    await send(client, "GET", "/livez", ("accept", filled(b"*/*,")))
    await send(client, "POST", "/items", ("accept", b"*/*"), ("content-type", large))
    assert (negotiate.cache_info().currsize, for_content_type.cache_info().currsize) == before


class Name(bytes):
    """A header's name that counts what it is compared with."""

    comparisons = 0
    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        type(self).comparisons += 1
        return bytes.__eq__(self, other)


def comparisons(count: int) -> int:
    """Count the comparisons that it takes to combine headers, one of which was sent twice."""
    Name.comparisons = 0
    combined([(Name(b"x-%d" % (number % (count - 1))), b"a") for number in range(count)])
    return Name.comparisons


def test_headers_that_are_sent_twice_are_combined_in_linear_time() -> None:
    assert comparisons(1000) <= 10 * 1000


def test_headers_that_are_sent_twice_keep_their_order() -> None:
    pairs = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b""), (b"b", b"2"), (b"a", b"1")]
    assert combined(pairs) == {b"a": b"1, 3, 1", b"b": b"2, 2", b"c": b""}
    assert combined(pairs[:2]) == {b"a": b"1", b"b": b"2"}


@on_sqlite
@pytest.mark.parametrize("escape", ["%41", "%", "%4", "%zz", "%2C", "%FF"])
async def test_a_query_with_too_many_escapes_is_refused_unread(client: httpx.AsyncClient, escape: str) -> None:
    detail = f"It may have {ESCAPES_MAX} escapes at most."
    for size in (ESCAPES_MAX + 1, HEAD_BYTES // len(escape)):
        for path in ("/items?name_prefix=", "/items?ids=", "/items?after=", "/items?", "/openapi.json?", "/items/1?"):
            response = await client.get(path + escape * size)
            assert code(response) == (400, "invalid-query"), path
            assert problem(response)["detail"] == detail


@on_sqlite
async def test_the_longest_queries_that_are_of_use_are_read(client: httpx.AsyncClient) -> None:
    ids = quote(",".join(str(10**18 + number) for number in range(1000)), safe="")
    prefix = quote("\U0001f4a1" * 255, safe="")
    for query in (f"ids={ids}", f"name_prefix={prefix}&price_min=1&price_max=2&order=-price&in_stock=true&limit=7"):
        response = await client.get(f"/items?{query}")
        assert (response.status_code, response.json()) == (200, []), query[:20]


LARGE_TARGETS: dict[str, Callable[[], str]] = {
    "order": lambda: "/items?order=" + "x" * HEAD_BYTES,
    "order of 32": lambda: "/items?" + "&".join(["order=" + "x" * 1800] * 32),
    "limit": lambda: "/items?limit=" + "9" * HEAD_BYTES,
    "price_min": lambda: "/items?price_min=" + "9" * HEAD_BYTES,
    "in_stock": lambda: "/items?in_stock=" + "x" * HEAD_BYTES,
    "name_prefix": lambda: "/items?name_prefix=" + "x" * HEAD_BYTES,
    "after": lambda: "/items?after=" + "A" * HEAD_BYTES,
    "ids": lambda: "/items?ids=" + "1," * (HEAD_BYTES // 2),
    "commas": lambda: "/items?ids=" + "," * HEAD_BYTES,
    "no value": lambda: "/items?" + "x" * HEAD_BYTES,
    "32 names": lambda: "/items?" + "&".join(f"{number}{'x' * 1800}" for number in range(32)),
    "nothing but &": lambda: "/items?" + "&" * HEAD_BYTES,
    "nothing but =": lambda: "/items?" + "=" * HEAD_BYTES,
    "a document's": lambda: "/openapi.json?" + "x" * HEAD_BYTES,
    "digits": lambda: "/items/" + "9" * HEAD_BYTES,
    "slashes": lambda: "/items/" + "1/" * (HEAD_BYTES // 2),
    "letters": lambda: "/" + "x" * HEAD_BYTES,
    "escapes": lambda: "/items/" + "%41" * (HEAD_BYTES // 3),
}


@on_sqlite
@pytest.mark.parametrize("target", LARGE_TARGETS.values(), ids=LARGE_TARGETS)
async def test_a_problem_does_not_repeat_a_large_address(client: httpx.AsyncClient, target: Callable[[], str]) -> None:
    for method in ("GET", "DELETE", "BREW"):
        response = await client.request(method, target())
        assert code(response)[0] in {400, 404, 405}
        assert len(response.content) + sum(len(name + value) for name, value in response.headers.raw) < (
            PROBLEM_BYTES_MAX
        )


@on_sqlite
@pytest.mark.parametrize("settings", [{"access_log": True}], indirect=True)
async def test_the_log_does_not_repeat_a_large_address(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service")
    await client.get("/" + "x" * HEAD_BYTES)
    await client.request("X" * HEAD_BYTES, "/items")
    found: list[dict[str, Any]] = [vars(record) for record in caplog.records if record.name == "service"]
    assert [(len(line["path"]), len(line["method"])) for line in found] == [
        (LOGGED_CHARACTERS_MAX, 3),
        (len("/items"), LOGGED_CHARACTERS_MAX),
    ]
