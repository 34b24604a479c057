"""A user with its items embedded: `GET /users/{id}?include=items`."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.test_idempotency import held
from tests.api.test_users_items import LAMP, NOBODY, shared_out
from tests.support.responses import DECODE, MSGPACK, code, create_batch, create_item
from tests.support.users import create_user, create_users


async def test_a_user_is_read_with_its_items(client: httpx.AsyncClient) -> None:
    [ada, _], items = await shared_out(client)
    here = f"/users/{ada['id']}?include=items"
    owned = [item for item in items if item["owner_id"] == ada["id"]]
    response = await client.get(here)
    assert response.json() == {**ada, "items": owned}
    packed = await client.get(here, headers={"accept": MSGPACK})
    embedded = DECODE[MSGPACK](packed.content)["items"]
    assert [(item["id"], item["price"]) for item in embedded] == [(item["id"], item["price"]) for item in owned]
    assert packed.headers["etag"] != response.headers["etag"]
    cat = await create_user(client, "cat")
    assert (await client.get(f"/users/{cat['id']}?include=items")).json() == {**cat, "items": []}
    assert code(await client.get(f"/users/{NOBODY}?include=items")) == (404, "user-not-found")


async def test_the_first_hundred_items_are_embedded(client: httpx.AsyncClient) -> None:
    ada, bob = await create_users(client, ["ada", "bob"])
    items = await create_batch(client, [{**LAMP, "owner_id": user["id"]} for user in (bob, ada) for _ in range(101)])
    for user, owned in ((bob, items[:100]), (ada, items[101:201])):
        assert (await client.get(f"/users/{user['id']}?include=items")).json()["items"] == owned


@pytest.mark.parametrize("query", ["include=", "include=Items", "include=items,items", "include=users", "included=1"])
async def test_nothing_else_can_be_included(client: httpx.AsyncClient, query: str) -> None:
    ada = await create_user(client)
    assert code(await client.get(f"/users/{ada['id']}?{query}")) == (400, "invalid-query")


async def test_the_tag_of_a_user_with_items_changes_when_one_of_them_does(client: httpx.AsyncClient) -> None:
    ada, bob = await create_users(client, ["ada", "bob"])
    here, alone = f"/users/{ada['id']}?include=items", f"/users/{ada['id']}"
    lamp = await create_item(client, owner_id=ada["id"])
    tags = [(await client.get(alone)).headers["etag"]]
    changes: list[tuple[str, str, Any]] = [
        ("PATCH", f"/items/{lamp['id']}", {"price": 1}),
        ("POST", "/items", {**LAMP, "owner_id": ada["id"]}),
        ("PATCH", f"/items/{lamp['id']}", {"owner_id": bob["id"]}),
        ("PATCH", f"/items/{lamp['id']}", {"owner_id": ada["id"]}),
        ("PATCH", alone, {"name": "A"}),
        ("DELETE", f"/items/{lamp['id']}", None),
    ]
    for method, url, body in changes:
        tag = (await client.get(here)).headers["etag"]
        assert tag not in tags
        assert (await client.get(here, headers={"if-none-match": tag})).status_code == 304
        assert (await client.get(alone, headers={"if-none-match": tag})).status_code == 200
        assert (await client.get(here, headers={"if-none-match": ", ".join(tags)})).status_code == 200
        assert code(await client.delete(alone, headers={"if-match": tag})) == (412, "stale")
        tags.append(tag)
        assert (await client.request(method, url, json=body)).is_success
    assert (await client.get(here)).headers["etag"] not in tags


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # on PostgreSQL no reader waits for a writer
async def test_items_are_embedded_while_another_process_writes(
    client: httpx.AsyncClient, database_url: str, backend: str
) -> None:
    [ada, _], _ = await shared_out(client)
    here = f"/users/{ada['id']}?include=items"
    before = (await client.get(here)).json()
    async with held(database_url, backend):
        response = await client.get(here, headers={"x-request-timeout": "2"})
        assert (response.status_code, response.json()) == (200, before)


async def test_a_price_of_minus_zero_is_zero_whichever_verb_writes_it(client: httpx.AsyncClient) -> None:
    item = await create_item(client, price=-0.0)
    here = f"/items/{item['id']}"
    for response in (
        await client.patch(here, content=b'{"price": -0.0}', headers={"content-type": "application/json"}),
        await client.put(here, content=b'{"name": "x", "price": -0.0}', headers={"content-type": "application/json"}),
        await client.get(here),
    ):
        assert b'"price":0.0' in response.content


async def test_a_user_and_the_items_are_read_as_of_one_state(client: httpx.AsyncClient) -> None:
    bob = await create_user(client, "bob")
    for number in range(25):
        ada = await create_user(client, f"ada-{number}")
        await create_batch(client, [{**LAMP, "owner_id": ada["id"]}] * 5)
        here = f"/users/{ada['id']}"
        reads = [client.get(f"{here}?include=items") for _ in range(12)]
        deleted, *found = await asyncio.gather(client.delete(f"{here}?reassign_to={bob['id']}"), *reads)
        assert deleted.status_code == 204
        assert {len(each.json()["items"]) for each in found if each.status_code == 200} <= {5}
