"""Every write of every resource of ROUTES happens once under its key, and no operation outlives its deadline."""

import asyncio
import json
import re
from collections.abc import Iterator
from itertools import count
from operator import itemgetter
from secrets import token_hex

import httpx
import msgspec
import pytest

from service.settings import Settings
from tests.api.test_idempotency import held, with_key, without_request_id
from tests.support.documented import check_response
from tests.support.refusals import UNKNOWN_ID, refusals
from tests.support.resources import Body, Request, ResourceClient, content
from tests.support.responses import ENCODE, JSON, MSGPACK, PATIENT, code, serving
from tests.support.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("documented")

REPLAYED = "idempotency-replayed"
# A request to cancel that is cut off while it asks for TLS is an error of the loop, which asyncpg (0.32) reports there.
PLAIN = {"sqlite": "", "postgresql": "?ssl=disable"}
GIVEN_UP = {(504, "timeout"), (503, "commit-outcome-unknown")}


async def check_repeat(
    resource: ResourceClient, request: Request, status: int, media_type: str = JSON, key: str = ""
) -> httpx.Response:
    """Send a request twice under one key, and return the first response: the second is the same, and adds nothing."""
    headers = with_key(key or token_hex(8))
    first = await resource.send(request, media_type, **headers, **{"x-request-id": "r-1"})
    assert (first.status_code, REPLAYED in first.headers) == (status, False), (request, first.content)
    left = await resource.everything()
    again = await resource.send(request, media_type, **headers, **{"x-request-id": "r-2"})
    assert again.headers.pop(REPLAYED, None) == "true", (request, again.content)
    assert without_request_id(again) == without_request_id(first)
    assert (first.headers["x-request-id"], again.headers["x-request-id"]) == ("r-1", "r-2")
    assert await resource.everything() == left
    return first


@pytest.mark.parametrize("media_type", ENCODE)
async def test_every_write_that_is_repeated_under_its_key_happens_once(
    resource: ResourceClient, media_type: str
) -> None:
    async for request, status in resource.each_write():
        before = await resource.everything()
        first = await check_repeat(resource, request, status, media_type)
        after = await resource.everything()
        if request.method == "DELETE":
            ids = [row["id"] for row in before if row not in after]
            assert first.status_code == 204 or content(first) == ids[::-1]
            assert len(ids) == len(before) - len(after) > 0
        else:
            rows, version = several(content(first)), 1 if request.method == "POST" else 2
            assert [row for row in after if row not in before] == sorted(rows, key=itemgetter("id")), request
            assert {row["version"] for row in rows} == {version}
            etag = None if isinstance(request.body, list) else f'"{version}-{media_type.removeprefix("application/")}"'
            location = resource.url(rows[0]).lstrip("/") if request.method == "POST" and etag else None
            assert (first.headers.get("etag"), first.headers.get("location")) == (etag, location)


@pytest.mark.parametrize("tags", ['"1-json"', '"1-json", "9-json"'])
async def test_a_write_is_repeated_under_its_key_though_its_condition_holds_no_more(
    resource: ResourceClient, tags: str
) -> None:
    async for request, status in resource.each_write():
        if resource.is_of_one(request):
            await check_repeat(resource, request._replace(headers={"if-match": tags}), status)


async def test_every_refusal_is_repeated_under_its_key(resource: ResourceClient) -> None:
    async for request, status, *_ in refusals(resource):
        before = await resource.everything()
        await check_repeat(resource, request, status)
        assert await resource.everything() == before


def another(resource: ResourceClient, request: Request) -> Request:
    """Return another request of the same method and path."""
    if isinstance(request.body, list):
        return request._replace(body=request.body[::-1])
    if request.body is not None:
        return request._replace(body={**request.body, **resource.new()})
    if "?ids=" in request.url:
        return request._replace(url=f"{request.url},{UNKNOWN_ID}")
    return request._replace(headers={"if-match": '"9-json"'})


def rewritten(resource: ResourceClient, request: Request) -> Iterator[tuple[str, bytes | None, dict[str, str]]]:
    """Yield the same request in other words: its URL, its body and its headers."""
    url, body = request.url, request.body
    if "," in url:
        yield url.replace(",", "%2C"), None, {}
        yield url.replace(",", "&ids="), None, {}
    if resource.is_of_one(request):
        content = None if body is None else ENCODE[JSON](body)
        for tags in ('"1-msgpack"', 'W/"1-json"', ' , "1-json" '):
            yield url, content, {"if-match": tags}
    if body is not None:
        members = body if isinstance(body, list) else [body]
        turned = [dict(reversed(one.items())) for one in members]
        yield url, msgspec.json.format(ENCODE[JSON](turned if body is members else turned[0])), {}
        yield url, ENCODE[JSON](body), {"content-type": f"{JSON}; charset=utf-8"}
        yield url, re.sub('"([a-z])', lambda found: f'"\\u{ord(found[1]):04x}', json.dumps(body)).encode(), {}
        yield url, ENCODE[MSGPACK](body), {"content-type": MSGPACK}
    operation = resource.operation(request)
    if operation and operation.status == 204:
        yield url, None, {"accept": "text/html"}
    if request.method == "PATCH" and resource.is_of_one(request):
        yield url, ENCODE[JSON](body), {"content-type": "application/merge-patch+json"}


async def test_a_repeat_may_be_written_in_other_words(resource: ResourceClient) -> None:
    async for request, status in resource.each_write():
        key = with_key(token_hex(8), accept=JSON, **{"content-type": JSON})
        if resource.is_of_one(request):
            key |= {"if-match": '"1-json"'}
        first = await resource.send(request, **key)
        assert first.status_code == status
        left = await resource.everything()
        for url, body, headers in rewritten(resource, request):
            again = await resource.client.request(request.method, url, content=body, headers=key | headers)
            assert again.headers.pop(REPLAYED, None) == "true", (request, body, headers, again.content)
            assert without_request_id(again) == without_request_id(first)
        assert await resource.everything() == left


async def test_a_repeat_may_write_out_a_default(resource: ResourceClient) -> None:
    """So that a field which a later version of the service adds does not make another request of a repeat."""
    created, [row] = resource.collection.created, await resource.create()
    defaults = {name: schema["default"] for name, schema in created.schemas.items() if "default" in schema}
    for request in (Request("POST", resource.path, resource.new()), Request("PUT", resource.url(row), resource.new())):
        if resource.operation(request):
            request.body.update(defaults)
            await check_repeat(resource, request, 201 if request.method == "POST" else 200, key="k-1")
            short = {name: value for name, value in request.body.items() if name not in defaults}
            again = await resource.send(request._replace(body=short), **with_key("k-1"))
            assert again.headers.get(REPLAYED) == "true", (request, again.content)


async def test_a_key_is_refused_for_any_other_request(resource: ResourceClient) -> None:
    async for request, status in resource.each_write():
        key = with_key(token_hex(8))
        assert (await resource.send(request, **key)).status_code == status
        left = await resource.everything()
        response = await resource.send(another(resource, request), **key)
        assert code(response) == (422, "idempotency-key-reused"), request
        assert await resource.everything() == left


async def test_no_operation_outlives_its_deadline_and_what_is_a_504_never_happens(
    resource: ResourceClient, settings: Settings, backend: str
) -> None:
    """Each is sent while another connection has the table; the first of a kind may be in flight then, others queue."""
    sent: list[tuple[Request, list[Body]]] = []
    versions = {"if-match": '"1-json", "9-json"'}  # for which a row is read before it is written
    for headers in ({}, {}, with_key("k-1"), with_key("k-2"), versions, with_key("k-3") | versions):
        pair = await resource.create(count=2)
        # SQLite's readers wait for no writer.
        sent += [(request, pair) for request in resource.reads(*pair) if backend == "postgresql"]
        for place in range(len(resource.writes(*pair))):
            request = resource.writes(*pair)[place]._replace(headers=headers)
            if resource.is_of_one(request) or "if-match" not in headers:
                sent.append((request, pair))
                pair = await resource.create(count=2)
    before = {row["id"] for row in await resource.everything()}
    url = settings.database_url + PLAIN[backend]
    async with serving(Settings(database_url=url, **PATIENT)) as other, asyncio.timeout(LIMIT_S):
        other.event_hooks = {"request": [], "response": [check_response]}
        busy = ResourceClient(resource.collection, other, count())
        async with held(settings.database_url, backend, resource.collection.table.name):
            responses = [await busy.send(request, **{"x-request-timeout": "0.001"}) for request, _ in sent]
    assert {code(response) for response in responses} <= GIVEN_UP
    found = {row["id"]: row for row in await resource.everything()}
    undone = [one for one, response in zip(sent, responses, strict=True) if response.status_code == 504]
    assert [found.get(row["id"]) for _, pair in undone for row in pair] == [row for _, pair in undone for row in pair]
    new = [row for id, row in found.items() if id not in before]
    bodies = [body for request, _ in undone if request.method == "POST" for body in several(request.body)]
    assert undone
    assert not [body for body in bodies for row in new if row.items() >= body.items()]


def several(body: Body | list[Body]) -> list[Body]:
    """Return the members of a batch, or one body as its only member."""
    return body if isinstance(body, list) else [body]
