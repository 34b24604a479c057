"""Items, one at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.types import Message

from service.http.response import Response, send_response
from service.worker_state import WorkerState
from tests.support.answers import added, code, everything, pointers, read

METHODS = ("GET", "PUT", "PATCH", "DELETE")
BODIES: dict[str, dict[str, Any]] = {"PUT": {"name": "desk", "price": 1}, "PATCH": {"name": "desk"}}


async def request(client: httpx.AsyncClient, method: str, url: str) -> httpx.Response:
    return await client.request(method, url, json=BODIES.get(method))


async def test_a_new_item_is_answered_whole_with_its_place_and_its_tag(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json={"name": "lamp", "price": 9.5, "in_stock": False})
    item = response.json()
    assert response.status_code == 201
    assert list(item) == ["id", "name", "price", "in_stock", "owner_id", "version", "created_at", "updated_at"]
    assert (item["name"], item["price"], item["in_stock"], item["version"]) == ("lamp", 9.5, False, 1)
    assert response.headers["location"] == f"/items/{item['id']}"
    assert response.headers["etag"] == '"1-json"'
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)


async def test_a_new_item_is_in_stock_unless_it_says_otherwise(client: httpx.AsyncClient) -> None:
    assert (await added(client))["in_stock"] is True


async def test_an_item_is_found_where_its_location_says_byte_for_byte_and_under_the_same_tag(
    client: httpx.AsyncClient,
) -> None:
    created = await client.post("/items", json={"name": "lamp", "price": 9.5})
    found = await client.get(created.headers["location"])
    assert found.status_code == 200
    assert (found.content, found.headers["etag"]) == (created.content, created.headers["etag"])


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_changed_item_is_answered_as_it_is_then_read(client: httpx.AsyncClient, method: str) -> None:
    item = await added(client)
    changed = await request(client, method, f"/items/{item['id']}")
    found = await client.get(f"/items/{item['id']}")
    assert changed.status_code == 200
    assert (changed.content, changed.headers["etag"]) == (found.content, found.headers["etag"])
    assert found.headers["etag"] == '"2-json"'


async def test_head_answers_like_get_without_a_body(client: httpx.AsyncClient) -> None:
    item = await added(client)
    got, headed = [await client.request(method, f"/items/{item['id']}") for method in ("GET", "HEAD")]
    assert (headed.status_code, headed.content) == (200, b"")
    for headers in (got.headers, headed.headers):
        del headers["x-request-id"]
    assert headed.headers == got.headers


async def test_the_answer_to_head_has_no_body_that_a_server_would_have_to_drop() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"method": "HEAD", "request_id": b"abc", "worker_state": WorkerState()}
    await send_response(scope, send, Response(200, [], b"[]"))
    assert dict(sent[0]["headers"])[b"content-length"] == b"2"
    assert sent[1]["body"] == b""


async def test_an_id_is_never_given_out_twice(client: httpx.AsyncClient) -> None:
    ids = []
    for _ in range(3):
        ids.append((await added(client))["id"])
        assert (await client.delete(f"/items/{ids[-1]}")).status_code == 204
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("id", [2, 2**63 - 1])
async def test_an_item_that_is_not_there_is_a_404(client: httpx.AsyncClient, method: str, id: int) -> None:
    await added(client)
    response = await request(client, method, f"/items/{id}")
    assert code(response) == (404, "item-not-found")
    assert str(id) in response.json()["detail"]
    assert [item["version"] for item in await everything(client)] == [1]


async def test_head_of_an_item_that_is_not_there_is_a_404_without_a_body(client: httpx.AsyncClient) -> None:
    response = await client.head("/items/1")
    assert (response.status_code, response.content) == (404, b"")


async def test_a_replacement_leaves_nothing_but_the_id_and_the_moment_of_creation(client: httpx.AsyncClient) -> None:
    item = await added(client, in_stock=False)
    response = await client.put(f"/items/{item['id']}", json={"name": "desk", "price": 120})
    replaced = response.json()
    expected = {**item, "name": "desk", "price": 120, "in_stock": True, "version": 2}
    assert replaced == {**expected, "updated_at": replaced["updated_at"]}


async def test_a_replacement_must_be_whole(client: httpx.AsyncClient) -> None:
    item = await added(client)
    response = await client.put(f"/items/{item['id']}", json={"in_stock": False})
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == ["/name", "/price"]
    assert await read(client, item["id"]) == item


@pytest.mark.parametrize("patch", [{"name": "desk"}, {"price": 0}, {"in_stock": False}, {"name": "desk", "price": 1}])
async def test_a_patch_changes_what_it_names_and_leaves_the_rest(
    client: httpx.AsyncClient, patch: dict[str, Any]
) -> None:
    item = await added(client)
    response = await client.patch(f"/items/{item['id']}", json=patch)
    changed = response.json()
    assert response.status_code == 200
    assert changed == {**item, **patch, "version": 2, "updated_at": changed["updated_at"]}


async def test_an_empty_patch_changes_nothing(client: httpx.AsyncClient) -> None:
    before = await client.post("/items", json={"name": "lamp", "price": 9.5})
    response = await client.patch(before.headers["location"], json={})
    assert response.status_code == 200
    assert (response.content, response.headers["etag"]) == (before.content, before.headers["etag"])


@pytest.mark.parametrize("field", ["name", "price", "in_stock"])
async def test_a_patch_cannot_take_a_field_away(client: httpx.AsyncClient, field: str) -> None:
    item = await added(client)
    response = await client.patch(f"/items/{item['id']}", json={field: None})
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == [f"/{field}"]
    assert await read(client, item["id"]) == item


async def test_a_deleted_item_is_gone(client: httpx.AsyncClient) -> None:
    item, other = await added(client), await added(client)
    response = await client.delete(f"/items/{item['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert not {"content-type", "content-length", "etag"} & response.headers.keys()
    for method in METHODS:
        assert code(await request(client, method, f"/items/{item['id']}")) == (404, "item-not-found")
    assert await everything(client) == [other]


async def test_every_change_adds_one_to_the_version(client: httpx.AsyncClient) -> None:
    item = await added(client)
    bodies = [("PATCH", {"price": 1}), ("PUT", {"name": "lamp", "price": 1}), ("PATCH", {"price": 1}), ("PATCH", {})]
    versions = []
    for method, body in bodies:
        response = await client.request(method, f"/items/{item['id']}", json=body)
        versions.append((response.json()["version"], response.headers["etag"]))
    assert versions == [(2, '"2-json"'), (3, '"3-json"'), (4, '"4-json"'), (4, '"4-json"')]


async def test_moments_are_utc_and_tell_when_an_item_was_made_and_last_changed(client: httpx.AsyncClient) -> None:
    item = await added(client)
    changed = (await client.patch(f"/items/{item['id']}", json={"price": 1})).json()
    created_at, updated_at = (datetime.fromisoformat(changed[name]) for name in ("created_at", "updated_at"))
    assert item["created_at"] == item["updated_at"] == changed["created_at"]
    assert changed["created_at"].endswith("Z")
    assert created_at <= updated_at < created_at + timedelta(minutes=1)
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
