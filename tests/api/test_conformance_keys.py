"""Every write of every resource of ROUTES happens once under its key, and no operation outlives its deadline."""

import asyncio
from itertools import count
from secrets import token_hex

import pytest

from service.settings import Settings
from tests.api.test_idempotency import held, keyed, told
from tests.support.answers import ENCODE, JSON, PATIENT, code, serving
from tests.support.documented import check_response
from tests.support.refusals import UNKNOWN_ID, refusals
from tests.support.resources import Body, Request, ResourceClient
from tests.support.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("documented")

REPLAYED = "idempotency-replayed"
# A request to cancel that is cut off while it asks for TLS is an error of the loop, to which asyncpg (0.32) says so.
PLAIN = {"sqlite": "", "postgresql": "?ssl=disable"}
GIVEN_UP = {(504, "timeout"), (503, "commit-outcome-unknown")}


async def check_repeat(resource: ResourceClient, request: Request, status: int, media_type: str = JSON) -> None:
    """Send a request twice under one key: the second response is the first one's, and nothing else happens."""
    key = keyed(token_hex(8))
    first = await resource.send(request, media_type, **key, **{"x-request-id": "r-1"})
    assert (first.status_code, REPLAYED in first.headers) == (status, False), (request, first.content)
    left = await resource.everything()
    again = await resource.send(request, media_type, **key, **{"x-request-id": "r-2"})
    assert again.headers.pop(REPLAYED, None) == "true", (request, again.content)
    assert told(again) == told(first)
    assert (first.headers["x-request-id"], again.headers["x-request-id"]) == ("r-1", "r-2")
    assert await resource.everything() == left


@pytest.mark.parametrize("media_type", ENCODE)
async def test_every_write_that_is_repeated_under_its_key_happens_once(
    resource: ResourceClient, media_type: str
) -> None:
    async for request, status in resource.each_write():
        before = await resource.everything()
        await check_repeat(resource, request, status, media_type)
        assert await resource.everything() != before, request


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
    return request._replace(headers={"if-match": "*"})


async def test_a_key_is_refused_for_any_other_request(resource: ResourceClient) -> None:
    async for request, status in resource.each_write():
        key = keyed(token_hex(8))
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
    for headers in ({}, {}, keyed("k-1"), keyed("k-2"), versions, keyed("k-3") | versions):
        pair = await resource.added(count=2)
        # SQLite's readers wait for no writer.
        sent += [(request, pair) for request in resource.reads(*pair) if backend == "postgresql"]
        for place in range(len(resource.writes(*pair))):
            request = resource.writes(*pair)[place]._replace(headers=headers)
            if resource.is_of_one(request) or "if-match" not in headers:
                sent.append((request, pair))
                pair = await resource.added(count=2)
    before = {row["id"] for row in await resource.everything()}
    url = settings.database_url + PLAIN[backend]
    async with serving(Settings(database_url=url, **PATIENT)) as other, asyncio.timeout(LIMIT_S):
        other.event_hooks = {"request": [], "response": [check_response]}
        busy = ResourceClient(resource.collection, other, count())
        async with held(settings.database_url, backend, resource.collection.table.name):
            answers = [await busy.send(request, **{"x-request-timeout": "0.001"}) for request, _ in sent]
    assert {code(answer) for answer in answers} <= GIVEN_UP
    found = {row["id"]: row for row in await resource.everything()}
    undone = [one for one, answer in zip(sent, answers, strict=True) if answer.status_code == 504]
    assert [found.get(row["id"]) for _, pair in undone for row in pair] == [row for _, pair in undone for row in pair]
    new = [row for id, row in found.items() if id not in before]
    bodies = [body for request, _ in undone if request.method == "POST" for body in several(request.body)]
    assert undone
    assert not [body for body in bodies for row in new if row.items() >= body.items()]


def several(body: Body | list[Body]) -> list[Body]:
    """Return the members of a batch, or one body as its only member."""
    return body if isinstance(body, list) else [body]
