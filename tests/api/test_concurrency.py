"""Many requests at once: none is lost, none sees what is not there any more, and none pays for another."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from tests.support.answers import added, added_set, code, everything, read

AT_ONCE = 64
pytestmark = pytest.mark.parametrize("settings", [{}, {"coalesce": False}], indirect=True, ids=["batchers", "alone"])


def statuses(responses: Sequence[httpx.Response]) -> dict[int, int]:
    return dict(Counter(response.status_code for response in responses))


async def test_items_that_are_created_at_once_each_have_an_id_and_their_own_values(client: httpx.AsyncClient) -> None:
    bodies = [{"name": f"lamp {n}", "price": n / 7, "in_stock": n % 2 == 0} for n in range(AT_ONCE)]
    responses = await asyncio.gather(*(client.post("/items", json=body) for body in bodies))
    assert statuses(responses) == {201: AT_ONCE}
    items = [response.json() for response in responses]
    assert len({item["id"] for item in items}) == AT_ONCE
    assert [{name: item[name] for name in ("name", "price", "in_stock")} for item in items] == bodies
    assert await everything(client) == sorted(items, key=lambda item: int(item["id"]))


async def test_changes_of_one_item_at_once_give_versions_without_gaps(client: httpx.AsyncClient) -> None:
    item = await added(client)
    url = f"/items/{item['id']}"
    responses = await asyncio.gather(*(client.patch(url, json={"price": price}) for price in range(AT_ONCE)))
    assert statuses(responses) == {200: AT_ONCE}
    changed = sorted((response.json() for response in responses), key=lambda one: int(one["version"]))
    assert [one["version"] for one in changed] == list(range(2, AT_ONCE + 2))
    assert {one["price"] for one in changed} == set(range(AT_ONCE))
    assert await read(client, item["id"]) == changed[-1]


async def test_changes_of_different_fields_at_once_are_all_kept(client: httpx.AsyncClient) -> None:
    item = await added(client)
    patches: list[dict[str, Any]] = [{"name": "desk"}, {"price": 1}, {"in_stock": False}]
    await asyncio.gather(*(client.patch(f"/items/{item['id']}", json=patch) for patch in patches))
    found = await read(client, item["id"])
    assert (found["name"], found["price"], found["in_stock"], found["version"]) == ("desk", 1, False, 4)


@pytest.mark.parametrize("rivals", [2, AT_ONCE])
async def test_of_updates_from_the_same_version_exactly_one_wins(client: httpx.AsyncClient, rivals: int) -> None:
    item = await added(client)
    url = f"/items/{item['id']}"
    for version in (1, 2, 3):
        headers = {"if-match": f'"{version}-json"'}
        writes = (client.patch(url, json={"name": f"{version} {rival}"}, headers=headers) for rival in range(rivals))
        responses = await asyncio.gather(*writes)
        assert statuses(responses) == {200: 1, 412: rivals - 1}
        [won] = [response.json() for response in responses if response.status_code == 200]
        assert await read(client, item["id"]) == won


async def test_of_different_writes_from_the_same_version_exactly_one_wins(client: httpx.AsyncClient) -> None:
    for item in await added_set(client, [{"name": "lamp", "price": 1}] * 10):
        url, condition = f"/items/{item['id']}", {"if-match": '"1-json"'}
        responses = await asyncio.gather(
            client.put(url, json={"name": "desk", "price": 2}, headers=condition),
            client.patch("/items", json=[{"id": item["id"], "version": 1, "price": 3}]),
            client.patch(url, json={"price": 4}, headers={"if-match": '"1-json", "9-json"'}),
        )
        assert statuses(responses) == {200: 1, 412: 2}
        assert (await read(client, item["id"]))["version"] == 2


async def test_of_deletes_at_once_exactly_one_finds_the_item(client: httpx.AsyncClient) -> None:
    item = await added(client)
    responses = await asyncio.gather(*(client.delete(f"/items/{item['id']}") for _ in range(AT_ONCE)))
    assert statuses(responses) == {204: 1, 404: AT_ONCE - 1}


async def test_a_reader_who_comes_after_an_answer_sees_what_was_written(client: httpx.AsyncClient) -> None:
    async def write_and_read(price: float) -> None:
        item = await added(client, price=price)
        for version in range(2, 6):
            changed = await client.patch(f"/items/{item['id']}", json={"price": price + version})
            found, *others = await asyncio.gather(*(client.get(f"/items/{item['id']}") for _ in range(3)))
            assert found.content == changed.content
            assert all(other.content == found.content for other in others)
            listed = await client.get("/items", params={"order": "-price", "limit": 1000, "price_min": price})
            assert changed.json() in listed.json()
        await client.delete(f"/items/{item['id']}")
        assert code(await client.get(f"/items/{item['id']}")) == (404, "item-not-found")

    await asyncio.gather(*(write_and_read(price) for price in range(16)))


async def test_a_request_that_fails_takes_no_other_with_it(client: httpx.AsyncClient) -> None:
    items = await added_set(client, [{"name": "lamp", "price": 1}] * AT_ONCE)
    requests = []
    for index, item in enumerate(items):
        stale, missing = index % 3 == 1, index % 3 == 2
        headers = {"if-match": '"7-json"'} if stale else {}
        requests.append(client.patch(f"/items/{item['id'] + 1000 * missing}", json={"price": 2}, headers=headers))
    responses = await asyncio.gather(*requests)
    assert [response.status_code for response in responses] == [(200, 412, 404)[n % 3] for n in range(AT_ONCE)]
    assert [item["version"] for item in await everything(client)] == [2 - (n % 3 > 0) for n in range(AT_ONCE)]


async def test_sets_that_change_the_same_items_in_other_orders_all_succeed(client: httpx.AsyncClient) -> None:
    items = await added_set(client, [{"name": "lamp", "price": 1}] * 20)
    forward = [{"id": item["id"], "price": 2} for item in items]
    sets = [forward if n % 2 else list(reversed(forward)) for n in range(16)]
    singles = [client.patch(f"/items/{item['id']}", json={"price": 3}) for item in items]
    responses = await asyncio.gather(*(client.patch("/items", json=one) for one in sets), *singles)
    assert statuses(responses) == {200: 36}
    assert {item["version"] for item in await everything(client)} == {18}
