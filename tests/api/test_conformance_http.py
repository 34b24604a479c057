"""Every resource of ROUTES speaks HTTP alike: conditions, methods, media types, parameters, and its document."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import httpx
import pytest

from service.http.operation import Resource
from service.http.validation import struct_fields
from service.routes import ROUTES
from service.settings import Settings
from tests.support.documented import DOCUMENT, resolved
from tests.support.refusals import UNKNOWN_ID
from tests.support.resources import COLLECTIONS, Collection, Request, ResourceClient, content
from tests.support.responses import ENCODE, JSON, MSGPACK, PROBLEM, code, pointers, serving, walked

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
NAMES = {JSON: "json", MSGPACK: "msgpack"}
# If-Match for a row at version 1.
MATCHING = ("*", '"1-json"', '"1-msgpack"', 'W/"1-json"', '"9-json", "1-json"', 'W/"9-json",, "1-msgpack"')
MISSING = ('"2-json"', '"2-json", "3-msgpack"', 'W/"2-json"', '"1"', 'W/"1"', '"1-xml"', '"etag"')

documented = pytest.mark.usefixtures("documented")


def test_every_resource_is_tested_and_each_of_its_operations_is_given_the_call() -> None:
    resources = [route.endpoint for route in ROUTES if isinstance(route.endpoint, Resource) and route.endpoint.noun]
    # Tokens are read at their users' paths alone, and have tests of their own.
    read = [one for one in resources if "GET" in one.operations]
    assert {one.noun for one in read} == {collection.noun for collection in COLLECTIONS}
    assert all(operation.takes_call for one in resources for operation in one.operations.values())


@documented
async def test_each_media_type_has_an_etag_of_its_own_and_each_version_another(resource: ResourceClient) -> None:
    [row] = await resource.create()
    requests = [Request("GET", resource.url(row)), Request("HEAD", resource.url(row))]
    for version, change in enumerate([None, *resource.changes(row)], start=1):
        if change is not None:
            assert (await resource.send(change)).headers["etag"] == f'"{version}-json"'
        for media_type, name in NAMES.items():
            tags = {(await resource.send(request, media_type)).headers["etag"] for request in requests}
            assert tags == {f'"{version}-{name}"'}


@documented
async def test_a_read_is_a_304_if_it_has_the_etag_already_and_only_then(resource: ResourceClient) -> None:
    [row] = await resource.create()
    for method in ("GET", "HEAD"):
        request = Request(method, resource.url(row))
        for tags in ("*", '"1-json"', 'W/"1-json"', '"9-json", "1-json"'):
            response = await resource.send(request, **{"if-none-match": tags})
            assert (response.status_code, response.headers["etag"]) == (304, '"1-json"')
            assert not [name for name in response.headers if name.startswith("content-")]
        for tags in ('"2-json"', '"1-msgpack"', '"1"', 'W/"2-json", "etag"'):
            assert (await resource.send(request, **{"if-none-match": tags})).status_code == 200


@documented
async def test_a_write_happens_if_if_match_has_the_version_and_is_a_412_if_not(resource: ResourceClient) -> None:
    for tags in MISSING:
        [row] = await resource.create()
        for request in resource.writes(row, row):
            if resource.is_of_one(request):
                response = await resource.send(request, **{"if-match": tags})
                assert code(response) == (412, "stale"), (request, tags)
                assert response.json()["title"] == f"The {resource.noun} has changed since it was read"
        assert (await resource.client.get(resource.url(row))).json() == row
    for tags in MATCHING:
        async for request, status in resource.each_write():
            if resource.is_of_one(request):
                assert (await resource.send(request, **{"if-match": tags})).status_code == status, (request, tags)
                left = await resource.client.get(request.url.partition("?")[0])
                assert left.json().get("version") == (None if request.method == "DELETE" else 2)


@documented
async def test_of_writes_at_once_for_one_version_exactly_one_happens(resource: ResourceClient) -> None:
    for tags in ('"1-json"', '"1-json", "9-json"'):
        [row] = await resource.create()
        changes = [one for _ in range(8) for one in resource.changes(row)]
        sent = [resource.send(change, **{"if-match": tags}) for change in changes]
        statuses = [response.status_code for response in await asyncio.gather(*sent)]
        assert sorted(statuses) == [200, *[412] * len(statuses)][: len(statuses)]
        assert (await resource.client.get(resource.url(row))).json()["version"] == (2 if changes else 1)


@documented
async def test_a_condition_that_a_write_does_not_evaluate_is_refused(resource: ResourceClient) -> None:
    rows = await resource.create(count=2)
    for request in resource.writes(*rows):
        names = ["if-none-match"] if resource.is_of_one(request) else ["if-none-match", "if-match"]
        for name in names:
            assert code(await resource.send(request, **{name: "*"})) == (400, "invalid-header"), request
    assert await resource.everything() == rows


@documented
@pytest.mark.parametrize("id", [424242, 2**63 - 1])
async def test_an_unknown_id_is_a_404_of_its_resource(resource: ResourceClient, id: int) -> None:
    [row] = await resource.create()
    empty = filter(resource.operation, [Request("PATCH", resource.url({"id": id}), {})])
    for request in [*resource.reads({"id": id}, row), *resource.writes({"id": id}, row), *empty]:
        if resource.is_of_one(request):
            for tags in ({}, {} if request.method == "GET" else {"if-match": '"1-json"'}):
                response = await resource.send(request, **tags)
                assert code(response) == (404, f"{resource.noun}-not-found")
                assert response.json()["detail"] == f"No {resource.noun} has the id {id}."
    for wrong in ("0", "007", "x", str(2**63)):
        assert code(await resource.client.get(f"{resource.path}/{wrong}")) == (404, "no-such-path")
    assert await resource.everything() == [row]


@documented
async def test_a_method_that_a_path_does_not_have_is_a_405_with_those_that_it_has(resource: ResourceClient) -> None:
    rows = await resource.create()
    paths = {resource.path: resource.collection.many, resource.url(rows[0]): resource.collection.one}
    for url, operations in paths.items():
        allowed = {*operations, "HEAD"} if "GET" in operations else set(operations)
        for method in set(METHODS) - allowed:
            response = await resource.client.request(method, url)
            assert code(response) == (405, "method-not-allowed")
            assert response.headers["allow"] == ", ".join(sorted(allowed))
    assert await resource.everything() == rows


@documented
async def test_ids_are_separated_by_commas_or_a_parameter_each(resource: ResourceClient) -> None:
    first, second, third = await resource.create(count=3)
    texts = ["ids={0}&ids={1}&ids={2}", "ids={0},{1}&ids={2}", "&ids={0}&&ids={1}%2C{2}&", "ids={0},{1},{2}"]
    ids = [third["id"], first["id"], second["id"]]
    for text in texts:
        found = await resource.send(Request("GET", f"{resource.path}?{text.format(*ids)}"))
        assert content(found) == [third, first, second], text
    unknown = "".join(f"&ids={n}" for n in range(UNKNOWN_ID, UNKNOWN_ID + 997))
    url = f"{resource.path}?{texts[0].format(*ids)}{unknown}"
    assert content(await resource.send(Request("GET", url))) == [third, first, second]  # of a thousand
    for request in filter(resource.operation, [Request("DELETE", url)]):
        assert content(await resource.send(request)) == ids
        assert await resource.everything() == []


@documented
async def test_an_unknown_or_repeated_parameter_is_refused_by_every_operation(resource: ResourceClient) -> None:
    rows = await resource.create(count=2)
    for request in [*resource.reads(*rows), *resource.writes(*rows)]:
        joined = f"{request.url}{'&' if '?' in request.url else '?'}"
        response = await resource.send(request._replace(url=f"{joined}colour=red"))
        assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/colour"]), request
        if "ids=" in request.url:
            again = request.url.partition("=")[2].partition(",")[0]
            response = await resource.send(request._replace(url=f"{joined}ids={again}"))
            assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/ids"])
    assert await resource.everything() == rows


@documented
async def test_every_operation_refuses_what_it_can_neither_read_nor_respond_to(resource: ResourceClient) -> None:
    rows = await resource.create(count=2)
    for request in [*resource.reads(*rows), *resource.writes(*rows)]:
        operation = resource.operation(request)
        if operation is None or operation.status != 204:
            assert code(await resource.send(request, accept="text/html")) == (406, "not-acceptable"), request
        assert code(await resource.send(request, **{"x-request-timeout": "soon"})) == (400, "invalid-header"), request
        if request.body is not None:
            unread = await resource.send(request, **{"content-type": "text/plain"})
            assert code(unread) == (415, "unsupported-media-type")
            assert unread.json()["detail"].endswith(", not text/plain.")
            for coding in ("gzip", "identity, br", "GZIP", "x"):
                encoded = await resource.send(request, **{"content-encoding": coding})
                assert code(encoded) == (415, "unsupported-content-coding")
                assert (encoded.headers["accept-encoding"], "accept" in encoded.headers) == ("identity", False)
                assert encoded.json()["detail"].endswith(f", not as {coding}.")
            for media_type in ENCODE:
                headers = {"content-type": media_type}
                broken = await resource.client.request(request.method, request.url, content=b"\xc1", headers=headers)
                assert code(broken) == (400, "malformed-body")
                empty = await resource.client.request(request.method, request.url, content=b"", headers=headers)
                assert (code(empty), empty.json()["detail"]) == ((400, "malformed-body"), "It is empty.")
    assert await resource.everything() == rows


@documented
@pytest.mark.parametrize("coding", ["identity", "Identity", "", " , "])
async def test_a_body_may_say_that_it_is_not_encoded(resource: ResourceClient, coding: str) -> None:
    async for request, status in resource.each_write():
        assert (await resource.send(request, **{"content-encoding": coding})).status_code == status


@documented
async def test_every_value_of_a_parameter_that_has_a_few_is_served(resource: ResourceClient) -> None:
    [row] = await resource.create()
    for url, path in ((resource.path, resource.path), (resource.url(row), f"{resource.path}/{{id}}")):
        for parameter in map(resolved, DOCUMENT["paths"][path]["get"]["parameters"]):
            values = parameter["schema"].get("enum", []) if parameter["in"] == "query" else []
            for value in values:
                request = Request("GET", f"{url}?{parameter['name']}={value}")
                response = await resource.send(request)
                assert response.status_code == 200
                unchanged = await resource.send(request, **{"if-none-match": response.headers.get("etag", '""')})
                assert unchanged.status_code == (304 if "etag" in response.headers else 200)


def words(texts: Iterable[str]) -> set[str]:
    """Return the words of texts, those of names too."""
    return set(re.findall("[a-z]+", " ".join(texts).lower()))


def texts(part: Any) -> Iterator[str]:
    """Yield the texts of a part of the document, and the names of parameters."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if isinstance(value, str) and name in {"name", "operationId", "summary", "description"}:
            yield value
        yield from texts(value)


def examples(response: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the examples of a response's problems, by code."""
    found = response.get("content", {}).get(PROBLEM, {"examples": {}})["examples"]
    return {name: resolved(example)["value"] for name, example in found.items()}


def made_texts(described: dict[str, Any], declared: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts about an operation that are made for every resource, but not its own problems."""
    yield from (one["description"] for one in map(resolved, described["parameters"]) if one["in"] == "header")
    for response in described["responses"].values():
        yield from (text for text in response["description"].split(".") if text.strip() not in declared.values())
        yield from (resolved(header)["description"] for header in response["headers"].values())
        yield from (
            f"{one['title']} {one['detail']}" for code, one in examples(response).items() if code not in declared
        )


@pytest.mark.parametrize("collection", COLLECTIONS, ids=str)
def test_the_document_of_a_resource_names_no_other_but_where_one_refers_to_the_other(collection: Collection) -> None:
    others = [one for one in COLLECTIONS if one is not collection]
    related = [*collection.references.values(), *(one for one, _ in collection.referring)]
    for method, path, operation in collection.operations:
        described = DOCUMENT["paths"][path][method.lower()]
        found = words(made_texts(described, {problem.code: problem.title for problem in operation.problems}))
        assert not found & {name for one in others for name in (one.noun, one.table.name)}, (method, path)
        assert collection.noun in found or path == collection.path
        strangers = {name for one in others if one not in related for name in (one.noun, one.table.name)}
        assert not words(texts(described)) & strangers, (method, path)


@pytest.mark.parametrize("collection", COLLECTIONS, ids=str)
def test_the_examples_of_problems_point_to_fields_of_their_own_operation(collection: Collection) -> None:
    for method, path, operation in collection.operations:
        names = {"colour", *struct_fields(operation.body), *struct_fields(operation.query)}
        for response in DOCUMENT["paths"][path][method.lower()]["responses"].values():
            for name, problem in examples(response).items():
                found = {error["pointer"].rpartition("/")[2] for error in problem["errors"]}
                assert found <= names, (method, path, name)


@documented
async def test_an_integer_with_a_fraction_is_refused_wherever_it_stands(resource: ResourceClient) -> None:
    [row] = await resource.create()
    for text in ("1.0", "1e0", "1E0"):
        headers = {"content-type": JSON}
        response = await resource.client.get(f"{resource.path}/{text}")
        assert code(response) == (404, "no-such-path")
        for name in ("limit", "offset", "ids", *resource.collection.references):
            response = await resource.client.get(f"{resource.path}?{name}={text}")
            assert (code(response), pointers(response)) == ((400, "invalid-query"), [f"/{name}"])
        for name in ("id", "version"):
            body = f'[{{"id": {row["id"]}, "{name}": {text}}}]'.encode()
            response = await resource.client.patch(resource.path, content=body, headers=headers)
            assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/0/{name}"])


@pytest.mark.parametrize("prefix", ["", "/shop", "/a/b"])
async def test_behind_a_proxy_that_strips_a_prefix_every_reference_leads_to_its_resource(
    collection: Collection, settings: Settings, prefix: str
) -> None:
    async with serving(settings) as inner:

        async def proxy(request: httpx.Request) -> httpx.Response:
            path = request.url.raw_path.removeprefix(prefix.encode())
            assert path != request.url.raw_path or not prefix, f"{request.url} is outside of the prefix"
            headers = {name: value for name, value in request.headers.items() if name != "host"}
            return await inner.request(request.method, path.decode(), content=request.content, headers=headers)

        transport = httpx.MockTransport(proxy)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://items.test{prefix}") as client:
            resource = await ResourceClient(collection, client, count(1)).prepared()
            created = await client.post(resource.path.lstrip("/"), json=resource.new())
            location = created.request.url.join(created.headers["location"])
            assert location == f"http://items.test{prefix}{resource.url(created.json())}"
            assert (await client.get(location)).json() == created.json()
            await resource.create(count=4)
            assert len(await walked(client, f"{resource.path.lstrip('/')}?limit=2")) == 5
            document = await client.get("openapi.json")
            [server] = document.json()["servers"]
            assert document.request.url.join(server["url"]) == f"http://items.test{prefix}/"
