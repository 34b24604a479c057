"""Users and the items that they own: references, deletion and reassignment."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.test_idempotency import held, repeated
from tests.support.responses import (
    Item,
    code,
    create_batch,
    create_item,
    everything,
    execute,
    pointers,
    problem,
    read,
    walked,
)
from tests.support.users import User, create_user, create_users, every_user

NOBODY = 424242
LAMP = {"name": "lamp", "price": 9.5}
ITEM_ORDERS = [sign + name for name in ("id", "name", "price", "created_at") for sign in ("", "-")]


async def test_an_item_without_an_owner_belongs_to_no_user(client: httpx.AsyncClient) -> None:
    ada = await create_user(client)
    assert (await create_item(client))["owner_id"] is None
    lamp = await create_item(client, owner_id=ada["id"])
    here = f"/items/{lamp['id']}"
    assert lamp["owner_id"] == ada["id"]
    assert (await client.patch(here, json={"price": 1})).json()["owner_id"] == ada["id"]
    assert (await client.patch(here, json={"owner_id": None})).json()["owner_id"] is None
    assert (await client.patch(here, json={"owner_id": ada["id"]})).json()["owner_id"] == ada["id"]
    assert (await client.put(here, json=LAMP)).json()["owner_id"] is None
    assert (await client.put(here, json={**LAMP, "owner_id": ada["id"]})).json()["owner_id"] == ada["id"]
    batch = await client.patch("/items", json=[{"id": lamp["id"], "owner_id": None}])
    assert (batch.json()[0]["owner_id"], batch.json()[0]["version"]) == (None, 7)


@pytest.mark.parametrize("owner", [0, -1, 2**63, "1", 1.5, True])
async def test_an_owner_is_the_id_of_a_user(client: httpx.AsyncClient, owner: Any) -> None:
    response = await client.post("/items", json={**LAMP, "owner_id": owner})
    assert (code(response), pointers(response)) == ((422, "invalid-body"), ["/owner_id"])


async def test_an_unknown_owner_fails_alone_among_requests_at_once(client: httpx.AsyncClient) -> None:
    ada = await create_user(client)
    owners = [ada["id"], None, NOBODY, ada["id"], NOBODY + 1, *[None] * 20]
    responses = await asyncio.gather(*(client.post("/items", json={**LAMP, "owner_id": owner}) for owner in owners))
    assert [response.status_code for response in responses] == [
        422 if owner is not None and owner >= NOBODY else 201 for owner in owners
    ]
    assert [response.json().get("owner_id") for response in responses if response.status_code == 201] == [
        owner for owner in owners if owner is None or owner < NOBODY
    ]


async def shared_out(client: httpx.AsyncClient) -> tuple[list[User], list[Item]]:
    users = await create_users(client, ["ada", "bob"])
    owners = [users[0]["id"], users[1]["id"], None]
    rows = [{"name": f"lamp {n * 7 % 5}", "price": n * 3 % 4, "owner_id": owners[n % 3]} for n in range(14)]
    return users, await create_batch(client, rows)


async def test_items_are_filtered_by_their_owner_in_every_order(client: httpx.AsyncClient) -> None:
    [ada, bob], items = await shared_out(client)
    for order in ITEM_ORDERS:
        ids = [item["id"] for item in await walked(client, f"/items?order={order}")]
        for query, owners in (
            (f"owner_id={ada['id']}", {ada["id"]}),
            (f"owner_id={bob['id']}&owned=true", {bob["id"]}),
            (f"owner_id={NOBODY}", set()),
            ("owned=false", {None}),
            ("owned=true", {ada["id"], bob["id"]}),
            (f"owned=false&owner_id={ada['id']}", set()),
        ):
            wanted = [item["id"] for item in sorted(items, key=lambda item: ids.index(item["id"]))]
            owned = {item["id"] for item in items if item["owner_id"] in owners}
            found = [item["id"] for item in await walked(client, f"/items?{query}&order={order}&limit=2")]
            assert found == [id for id in wanted if id in owned], (query, order)
    for query in ("owner_id=0", "owner_id=x", "owned=1", "owner_id="):
        assert code(await client.get(f"/items?{query}")) == (400, "invalid-query")


async def test_a_user_who_owns_items_is_not_deleted(client: httpx.AsyncClient) -> None:
    [ada, bob], items = await shared_out(client)
    response = await repeated(client, "DELETE", f"/users/{ada['id']}")
    assert code(response) == (409, "owns-items")
    assert str(ada["id"]) in problem(response)["detail"]
    cat = await create_user(client, "cat")
    response = await repeated(client, "DELETE", f"/users?ids={cat['id']},{bob['id']},{NOBODY},{ada['id']}")
    assert code(response) == (409, "owns-items")
    assert {str(ada["id"]), str(bob["id"])} <= set(problem(response)["detail"].strip(".").replace(",", "").split())
    assert await every_user(client) == [ada, bob, cat]
    assert await everything(client) == items


async def test_a_user_whose_last_item_is_gone_is_deleted(client: httpx.AsyncClient) -> None:
    [ada, bob], items = await shared_out(client)
    for item in items:
        if item["owner_id"] == ada["id"]:
            await client.delete(f"/items/{item['id']}")
        if item["owner_id"] == bob["id"]:
            await client.patch(f"/items/{item['id']}", json={"owner_id": None})
    assert (await client.delete(f"/users/{ada['id']}")).status_code == 204
    assert (await client.delete(f"/users?ids={bob['id']}")).json() == [bob["id"]]


async def test_deleting_who_is_not_there_or_has_moved_on_is_refused_before_what_they_own(
    client: httpx.AsyncClient,
) -> None:
    [ada, _], _ = await shared_out(client)
    assert code(await client.delete(f"/users/{NOBODY}")) == (404, "user-not-found")
    response = await client.delete(f"/users/{ada['id']}", headers={"if-match": '"7-json"'})
    assert code(response) == (412, "stale")


@pytest.mark.parametrize("has_key", [False, True], ids=["", "with key"])
async def test_items_get_another_owner_when_theirs_is_deleted(client: httpx.AsyncClient, has_key: bool) -> None:
    [ada, bob], items = await shared_out(client)
    url = f"/users/{ada['id']}?reassign_to={bob['id']}"
    response = await (repeated(client, "DELETE", url) if has_key else client.delete(url))
    assert (response.status_code, response.content) == (204, b"")
    assert await every_user(client) == [bob]
    for item in items:
        now = await read(client, item["id"])
        if item["owner_id"] == ada["id"]:
            assert now == item | {"owner_id": bob["id"], "version": 2, "updated_at": now["updated_at"]}
            assert now["updated_at"] > item["updated_at"]
        else:
            assert now == item


@pytest.mark.parametrize("count", [0, 1000, 1001])
async def test_any_number_of_items_gets_another_owner(client: httpx.AsyncClient, count: int) -> None:
    ada, bob = await create_users(client, ["ada", "bob"])
    rows = [{**LAMP, "owner_id": ada["id"]}] * count
    for start in range(0, count, 1000):
        await create_batch(client, rows[start : start + 1000])
    assert (await client.delete(f"/users/{ada['id']}?reassign_to={bob['id']}")).status_code == 204
    items = await everything(client)
    assert [(item["owner_id"], item["version"]) for item in items] == [(bob["id"], 2)] * count


async def test_items_do_not_go_to_who_is_not_there_or_is_deleted(client: httpx.AsyncClient) -> None:
    [ada, bob], items = await shared_out(client)
    here = f"/users/{ada['id']}"
    for other in (NOBODY, ada["id"]):
        response = await repeated(client, "DELETE", f"{here}?reassign_to={other}", headers={"key": str(other)})
        assert (code(response), pointers(response)) == ((422, "unknown-reference"), ["/reassign_to"])
    for url, status in (
        (f"/users/{NOBODY}?reassign_to={bob['id']}", (404, "user-not-found")),
        (f"{here}?reassign_to=0", (400, "invalid-query")),
        (f"{here}?reassign_to=x", (400, "invalid-query")),
        (f"{here}?reassign_to=", (400, "invalid-query")),
        (f"{here}?include=items", (400, "invalid-query")),
        (f"/users?ids={ada['id']}&reassign_to={bob['id']}", (400, "invalid-query")),
    ):
        assert code(await client.delete(url)) == status, url
    for tags in ('"7-json"', '"7-json", "8-json"'):
        response = await client.delete(f"{here}?reassign_to={bob['id']}", headers={"if-match": tags})
        assert code(response) == (412, "stale")
    assert await every_user(client) == [ada, bob]
    assert await everything(client) == items
    response = await client.delete(f"{here}?reassign_to={bob['id']}", headers={"if-match": '"1-json", "8-json"'})
    assert response.status_code == 204


async def test_reading_with_items_and_reassigning_are_within_their_time_limit(
    client: httpx.AsyncClient, database_url: str, backend: str
) -> None:
    [ada, bob], items = await shared_out(client)
    limit = {"x-request-timeout": "0.2"}
    async with held(database_url, backend, "users"):
        reading = await client.get(f"/users/{ada['id']}?include=items", headers=limit)
        deleting = await client.delete(f"/users/{ada['id']}?reassign_to={bob['id']}", headers=limit)
    assert code(deleting) == (504, "timeout")
    if backend == "sqlite":  # whose readers wait for no writer
        assert reading.status_code == 200
    else:
        assert code(reading) == (504, "timeout")
    assert await every_user(client) == [ada, bob]
    assert await everything(client) == items


async def test_an_item_never_lacks_its_owner_in_the_database_either(
    client: httpx.AsyncClient, database_url: str
) -> None:
    [ada, bob], _ = await shared_out(client)
    await client.delete(f"/users/{ada['id']}?reassign_to={bob['id']}")
    lost = "SELECT count(*) FROM items WHERE owner_id IS NOT NULL AND owner_id NOT IN (SELECT id FROM users)"
    assert await execute(database_url, lost) == [(0,)]
