"""Sets of items: in the order they were given, all or nothing."""

from typing import Any

import httpx
import pytest

from tests.support.answers import Item, added, added_set, code, everything, pointers

SIZE_MAX = 1000


def rows(count: int) -> list[dict[str, Any]]:
    """Make new items whose values have another order than the set."""
    return [{"name": f"lamp {n * 7 % count}", "price": n * 3 % count, "in_stock": n % 3 == 0} for n in range(count)]


def without_moments(items: list[Item]) -> list[Item]:
    return [{name: value for name, value in item.items() if not name.endswith("_at")} for item in items]


def query(ids: list[int]) -> str:
    return "/items?ids=" + ",".join(map(str, ids))


@pytest.mark.parametrize("size", [1, 2, SIZE_MAX])
async def test_a_new_set_is_answered_in_its_own_order(client: httpx.AsyncClient, size: int) -> None:
    response = await client.post("/items", json=rows(size))
    items = response.json()
    assert response.status_code == 201
    assert not {"location", "etag"} & response.headers.keys()
    assert without_moments(items) == [
        {"id": items[0]["id"] + n, **row, "version": 1} for n, row in enumerate(rows(size))
    ]
    assert await everything(client) == items


async def test_equal_items_of_a_set_are_different_items(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(1) * 5)
    assert len({item["id"] for item in items}) == 5


async def test_a_set_with_one_bad_item_adds_none(client: httpx.AsyncClient) -> None:
    bodies = rows(SIZE_MAX)
    bodies[500]["price"] = -1
    bodies[999] |= {"name": "", "colour": "red"}
    response = await client.post("/items", json=bodies)
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == ["/500/price", "/999/name", "/999/colour"]
    assert await everything(client) == []


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("size", [0, SIZE_MAX + 1])
async def test_a_set_that_is_empty_or_too_large_is_refused(client: httpx.AsyncClient, method: str, size: int) -> None:
    item = await added(client)
    bodies = rows(size) if method == "POST" else [{"id": n + 1, "price": 2} for n in range(size)]
    response = await client.request(method, "/items", json=bodies)
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == [""]
    assert await everything(client) == [item]


async def test_a_set_is_read_in_the_order_it_was_asked_for_without_what_is_not_there(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(5))
    ids = [item["id"] for item in items]
    response = await client.get(query([ids[3], 2**63 - 1, ids[0], 10**9, ids[4]]))
    assert response.json() == [items[3], items[0], items[4]]
    assert "link" not in response.headers
    assert (await client.get(query([10**9]))).json() == []


async def test_a_thousand_items_are_read_at_once(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(SIZE_MAX))
    backwards = sorted(items, key=lambda item: (item["price"], item["id"]), reverse=True)
    response = await client.get(query([item["id"] for item in backwards]))
    assert response.json() == backwards


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_ids_that_are_no_set_are_refused(client: httpx.AsyncClient, method: str) -> None:
    item = await added(client)
    too_many = ",".join(str(n + 1) for n in range(SIZE_MAX + 1))
    wrong = ["", ",", "1,", ",1", "1,,2", "1,1", "0", "-1", "1;2", "1 2", "1,%202", "x", "1.5", "007", "%2B1", "null"]
    for ids in [*wrong, too_many, "9" * 5000, str(2**63), "1," * 999 + "1", "%D9%A1", "[1]", "true", "1%00", "1e400"]:
        response = await client.request(method, f"/items?ids={ids}")
        assert code(response) == (400, "invalid-query"), ids[:20]
        assert pointers(response) == ["/ids"], ids[:20]
    assert await everything(client) == [item]


async def test_a_changed_set_is_answered_in_the_order_it_was_sent(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(4))
    patches = [
        {"id": items[2]["id"], "name": "desk"},
        {"id": items[0]["id"], "price": 7.5, "in_stock": False},
        {"id": items[3]["id"]},
        {"id": items[1]["id"], "in_stock": True, "version": 1},
    ]
    response = await client.patch("/items", json=patches)
    assert response.status_code == 200
    versions = [2, 2, 1, 2]
    before = {item["id"]: item for item in without_moments(items)}
    assert without_moments(response.json()) == [
        {**before[patch["id"]], **patch, "version": version} for patch, version in zip(patches, versions, strict=True)
    ]
    assert await everything(client) == sorted(response.json(), key=lambda item: int(item["id"]))


async def test_a_thousand_items_are_changed_at_once(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(SIZE_MAX))
    patches = [{"id": item["id"], "version": 1, "price": item["id"] / 3} for item in reversed(items)]
    response = await client.patch("/items", json=patches)
    assert [(item["id"], item["price"], item["version"]) for item in response.json()] == [
        (patch["id"], patch["price"], 2) for patch in patches
    ]
    assert await everything(client) == list(reversed(response.json()))


async def test_an_empty_patch_in_a_set_changes_nothing(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(2))
    response = await client.patch("/items", json=[{"id": item["id"]} for item in items])
    assert response.json() == items


async def test_a_set_that_names_what_is_not_there_changes_nothing(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(2))
    known = [{"id": item["id"], "price": 99} for item in items]
    response = await client.patch("/items", json=[known[0], {"id": 424242}, {"id": 434343, "version": 1}, known[1]])
    assert code(response) == (404, "item-not-found")
    assert {"424242", "434343"} <= set(response.json()["detail"].strip(".").replace(",", "").split())
    assert await everything(client) == items


async def test_a_set_that_is_stale_and_names_what_is_not_there_is_told_the_latter(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(2))
    stale = [{"id": item["id"], "version": 7, "price": 99} for item in items]
    response = await client.patch("/items", json=[stale[0], {"id": 424242, "version": 7}, stale[1]])
    assert code(response) == (404, "item-not-found")
    assert response.json()["detail"] == "No item has the id 424242."
    assert await everything(client) == items


@pytest.mark.parametrize("version", [1, 3, 2**63 - 1])
@pytest.mark.parametrize("patch", [{"price": 99}, {}])
async def test_a_set_with_a_stale_version_changes_nothing(
    client: httpx.AsyncClient, version: int, patch: dict[str, Any]
) -> None:
    items = await added_set(client, rows(3))
    await client.patch(f"/items/{items[1]['id']}", json={"price": 5})
    before = await everything(client)
    patches = [{"id": item["id"], "price": 99} for item in items]
    patches[1] = {"id": items[1]["id"], "version": version, **patch}
    response = await client.patch("/items", json=patches)
    assert code(response) == (412, "stale")
    assert str(items[1]["id"]) in response.json()["detail"]
    assert await everything(client) == before


async def test_a_set_that_names_an_item_twice_changes_nothing(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(2))
    ids = [items[0]["id"], items[1]["id"], items[0]["id"], items[0]["id"], items[1]["id"]]
    response = await client.patch("/items", json=[{"id": id, "price": 99} for id in ids])
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == ["/2/id", "/3/id", "/4/id"]
    assert await everything(client) == items


async def test_a_set_with_one_bad_patch_changes_nothing(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(3))
    patches: list[dict[str, Any]] = [{"id": item["id"], "price": 99} for item in items]
    patches[1] |= {"price": None, "version": 0}
    patches[2] |= {"id": 2**63, "created_at": "2026-01-01T00:00:00Z"}
    response = await client.patch("/items", json=[*patches, {"price": 1}])
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == ["/1/version", "/1/price", "/2/id", "/2/created_at", "/3/id"]
    assert await everything(client) == items


async def test_a_set_is_not_a_single_patch(client: httpx.AsyncClient) -> None:
    item = await added(client)
    response = await client.patch("/items", json={"id": item["id"], "price": 99})
    assert (code(response), pointers(response)) == ((422, "invalid-body"), [""])
    response = await client.patch(f"/items/{item['id']}", json=[{"price": 99}])
    assert (code(response), pointers(response)) == ((422, "invalid-body"), [""])
    assert await everything(client) == [item]


async def test_deleting_a_set_answers_which_of_it_were_there(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(4))
    ids = [item["id"] for item in items]
    response = await client.delete(query([ids[2], 10**9, ids[0], ids[3]]))
    assert (response.status_code, response.json()) == (200, [ids[2], ids[0], ids[3]])
    assert await everything(client) == [items[1]]
    assert (await client.delete(query([ids[0], ids[1]]))).json() == [ids[1]]
    assert (await client.delete(query([ids[0], ids[1]]))).json() == []


async def test_a_thousand_items_are_deleted_at_once(client: httpx.AsyncClient) -> None:
    items = await added_set(client, rows(SIZE_MAX))
    ids = [item["id"] for item in reversed(items)]
    assert (await client.delete(query(ids))).json() == ids
    assert await everything(client) == []


async def test_deleting_a_set_wants_to_know_which(client: httpx.AsyncClient) -> None:
    item = await added(client)
    response = await client.delete("/items")
    assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/ids"])
    assert await everything(client) == [item]
