"""Items, one at a time."""

from datetime import UTC, datetime, timedelta

import httpx
from starlette.types import Message

from service.http.response import Response, send_response
from service.worker_state import WorkerState
from tests.support.responses import create_item


async def test_a_new_item_is_returned_whole_with_its_place_and_its_tag(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json={"name": "lamp", "price": 9.5, "in_stock": False})
    item = response.json()
    assert response.status_code == 201
    assert list(item) == ["id", "name", "price", "in_stock", "owner_id", "version", "created_at", "updated_at"]
    assert (item["name"], item["price"], item["in_stock"], item["version"]) == ("lamp", 9.5, False, 1)
    assert response.headers["location"] == f"items/{item['id']}"
    assert response.headers["etag"] == '"1-json"'
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)


async def test_a_new_item_is_in_stock_unless_sent_otherwise(client: httpx.AsyncClient) -> None:
    assert (await create_item(client))["in_stock"] is True


async def test_the_response_to_head_has_no_body_that_a_server_would_have_to_drop() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"method": "HEAD", "request_id": b"abc", "worker_state": WorkerState()}
    await send_response(scope, send, Response(200, [], b"[]"))
    assert dict(sent[0]["headers"])[b"content-length"] == b"2"
    assert sent[1]["body"] == b""


async def test_head_of_an_item_that_is_not_there_is_a_404_without_a_body(client: httpx.AsyncClient) -> None:
    response = await client.head("/items/1")
    assert (response.status_code, response.content) == (404, b"")


async def test_every_change_adds_one_to_the_version(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    bodies = [("PATCH", {"price": 1}), ("PUT", {"name": "lamp", "price": 1}), ("PATCH", {"price": 1}), ("PATCH", {})]
    versions = []
    for method, body in bodies:
        response = await client.request(method, f"/items/{item['id']}", json=body)
        versions.append((response.json()["version"], response.headers["etag"]))
    assert versions == [(2, '"2-json"'), (3, '"3-json"'), (4, '"4-json"'), (4, '"4-json"')]


async def test_timestamps_are_utc_and_show_when_an_item_was_made_and_last_changed(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    changed = (await client.patch(f"/items/{item['id']}", json={"price": 1})).json()
    created_at, updated_at = (datetime.fromisoformat(changed[name]) for name in ("created_at", "updated_at"))
    assert item["created_at"] == item["updated_at"] == changed["created_at"]
    assert changed["created_at"].endswith("Z")
    assert created_at <= updated_at < created_at + timedelta(minutes=1)
    assert abs(datetime.now(UTC) - created_at) < timedelta(minutes=1)
