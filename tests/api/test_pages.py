"""Pages: a walk gives each item once, whatever happens meanwhile, and a cursor leads nowhere else."""

from datetime import UTC, datetime
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest

from service.resources.items import COLLECTION, ItemResponse
from tests.api.test_lists import ORDERS, filtered, ordered, shelf
from tests.support.resources import ResourceClient
from tests.support.responses import Item, code, create_batch, next_url, pages, walked

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def cursor(response: httpx.Response) -> str:
    """Return the cursor of the next page."""
    return parse_qs(urlsplit(next_url(response) or "").query)["after"][0]


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
async def test_a_walk_gives_every_item_once_and_in_order(client: httpx.AsyncClient, limit: int) -> None:
    items = await shelf(client)
    for order in ORDERS:
        assert await walked(client, f"/items?order={order}&limit={limit}") == ordered(items, order), order


async def test_all_pages_but_the_last_are_full(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    sizes = [len(page) async for page in pages(client, "/items?limit=7&order=-price")]
    assert sizes == [7] * (len(items) // 7) + [len(items) % 7]


@pytest.mark.parametrize("order", ORDERS)
async def test_a_walk_gives_once_what_stays_while_other_items_come_and_go(
    client: httpx.AsyncClient, order: str
) -> None:
    items = await create_batch(client, [{"name": f"{'abc'[n % 3]}{n % 5}", "price": n % 4} for n in range(40)])
    stays, goes = items[::2], ordered(items[1::2], order)
    seen: list[Item] = []
    never_seen: list[Item] = []
    async for page in pages(client, f"/items?order={order}&limit=3"):
        seen += page
        ahead = [item for item in goes if item not in seen + never_seen][:1]
        never_seen += ahead
        for item in [*(last for last in page[-1:] if last in goes), *ahead]:
            assert (await client.delete(f"/items/{item['id']}")).status_code == 204
        await create_batch(client, [{"name": "a0", "price": 0}, {"name": "c9", "price": 9}])  # in front and behind
    assert seen == ordered(seen, order)
    assert len({item["id"] for item in seen}) == len(seen)
    assert [item for item in seen if item in stays] == ordered(stays, order)
    assert not [item for item in seen if item in never_seen]


async def test_an_item_that_is_changed_during_a_walk_keeps_its_place_in_orders_that_it_does_not_change(
    client: httpx.AsyncClient,
) -> None:
    items = await shelf(client)
    walk = []
    async for page in pages(client, "/items?order=name&limit=7"):
        walk += [item["id"] for item in page]
        for item in items[:9]:
            await client.patch(f"/items/{item['id']}", json={"price": 1, "in_stock": True})
    assert walk == [item["id"] for item in ordered(items, "name")]


async def test_a_cursor_stays_where_it_is_when_its_item_is_deleted(client: httpx.AsyncClient) -> None:
    items = ordered(await shelf(client), "-price")
    first = await client.get("/items?order=-price&limit=10")
    await client.delete(f"/items/{items[9]['id']}")
    assert await walked(client, next_url(first) or "") == items[10:]


async def test_a_cursor_goes_with_other_limits_and_filters_and_an_offset(client: httpx.AsyncClient) -> None:
    items = ordered(await shelf(client), "price")
    after = cursor(await client.get("/items?order=price&limit=10"))
    response = await client.get(f"/items?order=price&limit=20&offset=3&in_stock=true&after={after}&count=true")
    in_stock = [item for item in items if item["in_stock"]]
    assert response.json() == [item for item in items[10:] if item["in_stock"]][3:23]
    assert response.headers["x-total-count"] == str(len(in_stock))


@pytest.mark.parametrize("order", ORDERS)
async def test_a_cursor_goes_with_every_bound_before_at_and_behind_it(client: httpx.AsyncClient, order: str) -> None:
    items = ordered(await shelf(client), order)
    bounds: list[dict[str, Any]] = [{"price_min": 9.5}, {"price_max": 9.5}, {"name_prefix": "l"}, {"name_prefix": "m"}]
    for last in items[::9]:
        after = COLLECTION.listing.cursors.write(order, msgspec.convert(last, ItemResponse))
        for bound in [
            *bounds,
            {"price_min": last["price"]},
            {"price_max": last["price"]},
            {"name_prefix": last["name"]},
        ]:
            response = await client.get("/items", params={"order": order, "limit": 1000, "after": after, **bound})
            assert response.json() == filtered(items[items.index(last) + 1 :], bound), (last, bound)


async def test_a_filtered_walk_gives_every_item_once_and_in_order(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    bounds: list[dict[str, Any]] = [{"price_min": 9.5}, {"price_max": 9.5}, {"name_prefix": "l", "price_min": 0.1}]
    for order, bound in product(ORDERS, bounds):
        url = str(httpx.URL("/items", params={"order": order, "limit": 4, **bound}))
        assert await walked(client, url) == ordered(filtered(items, bound), order), (order, bound)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_cursor_with_one_other_character_is_refused(resource: ResourceClient) -> None:
    await resource.create(count=3)
    for order in resource.collection.orders:
        after = cursor(await resource.client.get(f"{resource.path}?order={order}&limit=1"))
        assert set(after) <= set(ALPHABET)
        for position, character in enumerate(after):
            place = ALPHABET.index(character)
            for other in (ALPHABET[place ^ 1], ALPHABET[place ^ 32], "!=+ \u00e9\x00"[position % 6]):
                damaged = after[:position] + other + after[position + 1 :]
                response = await resource.client.get(resource.path, params={"order": order, "after": damaged})
                assert code(response) == (400, "invalid-cursor"), damaged
        assert (await resource.client.get(resource.path, params={"order": order, "after": after})).status_code == 200


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_cursor_that_was_cut_or_grew_is_refused(resource: ResourceClient) -> None:
    await resource.create(count=3)
    order = resource.collection.orders[-1]
    after = cursor(await resource.client.get(f"{resource.path}?order={order}&limit=1"))
    cut = [after[:end] for end in range(len(after))] + [after[start:] for start in range(1, len(after))]
    grown = [after + more for more in ("A", "AA", "AAAA", "=", "==", "!", "\n", " ", after, "A" * 10_000)]
    odd = ["\U0001f4a1", "null", "[]", "1", "%", "../..", "' OR 1=1", "\x00", "=" * 100, "\ud7ff"]
    for damaged in [*cut, *grown, *odd]:
        response = await resource.client.get(resource.path, params={"order": order, "after": damaged})
        assert code(response) == (400, "invalid-cursor"), damaged


FORGED: list[tuple[str, object]] = [
    ("created_at", "2026-01-01T00:00:00"),
    ("created_at", "2026-01-01T00:00:00Z"),
    ("created_at", "0001-01-01T00:00:00+14:00"),
    ("created_at", "9999-12-31T23:59:59-14:00"),
    ("created_at", 0),
    ("created_at", msgspec.msgpack.Ext(-1, b"\xff" * 12)),
    ("price", float("nan")),
    ("price", float("inf")),
    ("price", -1.0),
    ("price", 1),
    ("name", ""),
    ("name", "x" * 256),
    ("name", "\x00"),
    ("name", b"lamp"),
    ("id", 0),
    ("id", 2**63),
    ("id", 1.0),
]


async def test_a_cursor_that_was_never_given_out_is_refused_even_if_its_checksum_is_right(
    client: httpx.AsyncClient,
) -> None:
    for order, value in FORGED:
        response = await client.get(
            "/items", params={"order": order, "after": COLLECTION.listing.cursors._encode(order, value, 1)}
        )
        assert code(response) == (400, "invalid-cursor"), (order, value)


@pytest.mark.parametrize("order", ORDERS)
async def test_a_cursor_beyond_everything_has_nothing_after_it(client: httpx.AsyncClient, order: str) -> None:
    await create_batch(client, [{"name": "lamp", "price": 1}] * 3)
    ends: dict[str, tuple[Any, Any]] = {
        "id": (2**63 - 1, 1),
        "name": ("\U0010ffff" * 255, "\x01"),
        "price": (1.7976931348623157e308, 0.0),
        "created_at": (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
    }
    value = ends[order.removeprefix("-")][order.startswith("-")]
    after = COLLECTION.listing.cursors._encode(order, value, value if order.endswith("id") else 1)
    response = await client.get("/items", params={"order": order, "after": after})
    assert (response.status_code, response.json()) == (200, [])
