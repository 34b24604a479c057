"""Lists: filtered and ordered as Python would do it."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.resources import Collection, ResourceClient
from tests.support.responses import Item, code, create_batch, execute, next_url, pointers, walked

FIELDS = ("id", "name", "price", "created_at")
ORDERS = [sign + field for field in FIELDS for sign in ("", "-")]
NAMES = (
    *("lamp", "Lamp", "LAMP", "lamp ", "lam", "lampe", "la", "_amp", "%amp", "l%mp", "l_mp", "\u00e9", "e\u0301", "E"),
    *("Zebra", "zebra", "\u00c4pfel", "Apfel", "\u03b1", "\u0416", "\u05d0", "\U0001f4a1", "\U0001f4a1 lamp", "\uffff"),
    *("\ud7ff", "\ud7ffx", "\ue000", "\U0010ffff", "\U0010ffff\U0010ffff", "\U0010ffffx", "\U00010000", " ", "1", "10"),
    *("2", "~", "\x01", "\x7f", "la\nmp", "lamp" * 63, "a", "a\x01", "a\U0010ffff", "a\U0010ffffb", "b"),
)
PRICES = (0, 0.1, 0.1 + 0.2, 9.5, 9.5, 9.5, 5e-324, 1e308, 1.7976931348623157e308, 1e16)


async def shelf(client: httpx.AsyncClient) -> list[Item]:
    """Fill the service, in several statements, with items that share names, prices and timestamps."""
    rows = [
        {"name": name, "price": price, "in_stock": bool(index % 3)}
        for index, (name, price) in enumerate(zip(NAMES + NAMES[:15], PRICES * 6, strict=True))
    ]
    items = []
    for start in range(0, len(rows), 23):
        items += await create_batch(client, rows[start : start + 23])
    return items


def ordered(items: Iterable[Item], order: str) -> list[Item]:
    """Sort as the service should: by code point, by value, by time, and what is equal by id."""
    field = order.removeprefix("-")

    def place(item: Item) -> tuple[Any, int]:
        value = item[field]
        # As text a full second, which is written without a fraction, would come after the fractions that follow it.
        return datetime.fromisoformat(value) if field == "created_at" else value, item["id"]

    return sorted(items, key=place, reverse=order.startswith("-"))


FILTERS: dict[str, Callable[[Item, Any], bool]] = {
    "in_stock": lambda item, value: bool(item["in_stock"] == value),
    "price_min": lambda item, value: bool(item["price"] >= value),
    "price_max": lambda item, value: bool(item["price"] <= value),
    "name_prefix": lambda item, value: bool(item["name"].startswith(value)),
}


def filtered(items: Iterable[Item], filters: dict[str, Any]) -> list[Item]:
    """Keep what passes every filter."""
    return [item for item in items if all(FILTERS[name](item, value) for name, value in filters.items())]


async def test_every_order_is_the_one_of_python_and_what_is_equal_goes_by_id(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    for order in ORDERS:
        response = await client.get("/items", params={"order": order, "limit": 1000})
        assert response.json() == ordered(items, order), order


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_names_are_ordered_by_code_point_whatever_the_order_of_the_server(database_url: str) -> None:
    [[collation]] = await execute(
        database_url,
        "SELECT collation_name FROM information_schema.columns WHERE column_name = 'name' AND table_name = 'items'",
    )
    assert collation == "C"


async def test_a_list_is_by_id_and_has_100_rows_unless_asked_otherwise(resource: ResourceClient) -> None:
    rows = await resource.create(count=101)
    response = await resource.client.get(resource.path)
    assert response.json() == rows[:100]
    assert "x-total-count" not in response.headers


async def test_an_empty_list_is_a_list(collection: Collection, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{collection.path}?count=true")
    assert (response.status_code, response.json()) == (200, [])
    assert response.headers["x-total-count"] == "0"
    assert "link" not in response.headers


async def test_head_of_a_list_has_the_headers_of_the_list(resource: ResourceClient) -> None:
    await resource.create(count=3)
    url = f"{resource.path}?limit=2&count=true"
    got, headed = [await resource.client.request(method, url) for method in ("GET", "HEAD")]
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("link", "x-total-count", "content-length", "content-type", "vary"):
        assert headed.headers[name] == got.headers[name], name


@pytest.mark.parametrize("order", ["id", "-name", "price", "-created_at"])
async def test_every_filter_selects_what_it_names_alone_and_with_others(client: httpx.AsyncClient, order: str) -> None:
    items = await shelf(client)
    choices: dict[str, list[Any]] = {
        "in_stock": [None, True, False],
        "price_min": [None, 0, 9.5],
        "price_max": [None, 9.5, 1.7976931348623157e308],
        "name_prefix": [None, "la"],
    }
    for values in product(*choices.values()):
        filters = {name: value for name, value in zip(choices, values, strict=True) if value is not None}
        expected = ordered(filtered(items, filters), order)
        response = await client.get("/items", params={"order": order, "limit": 1000, "count": True, **filters})
        assert response.json() == expected, filters
        assert response.headers["x-total-count"] == str(len(expected)), filters


async def test_a_price_filter_takes_every_price_exactly(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    for price in {*PRICES, 0.3, 1e-300, 9.499999999999998}:
        for name in ("price_min", "price_max"):
            response = await client.get("/items", params={name: repr(price), "limit": 1000})
            assert response.json() == filtered(items, {name: price}), (name, price)


async def test_a_price_range_that_is_empty_has_no_items(client: httpx.AsyncClient) -> None:
    await shelf(client)
    response = await client.get("/items?price_min=10&price_max=9")
    assert (response.status_code, response.json()) == (200, [])


async def test_a_name_prefix_is_taken_character_by_character(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    prefixes = {*NAMES, *(name[:1] for name in NAMES), *(name + "\U0010ffff" for name in NAMES[:5]), "x" * 255, "L"}
    for prefix in prefixes:
        params: dict[str, Any] = {"name_prefix": prefix, "limit": 1000, "count": "true"}
        for order in ("name", "-name", "id"):
            response = await client.get("/items", params={**params, "order": order})
            expected = ordered(filtered(items, {"name_prefix": prefix}), order)
            assert response.json() == expected, ascii(prefix)
            assert response.headers["x-total-count"] == str(len(expected)), ascii(prefix)


async def test_a_prefix_is_paged_like_any_list(client: httpx.AsyncClient) -> None:
    items = await shelf(client)
    for order, prefix in product(("name", "-name", "price", "-id"), ("l", "\ud7ff", "\U0010ffff", "a\U0010ffff")):
        url = str(httpx.URL("/items", params={"name_prefix": prefix, "order": order, "limit": 2}))
        assert await walked(client, url) == ordered(filtered(items, {"name_prefix": prefix}), order), (order, prefix)


async def test_an_offset_skips_items(client: httpx.AsyncClient) -> None:
    items = ordered(await shelf(client), "-price")
    for offset in (0, 1, 7, len(items) - 1, len(items), 10_000):
        params: dict[str, Any] = {"order": "-price", "offset": offset, "limit": 5, "count": True}
        response = await client.get("/items", params=params)
        assert response.json() == items[offset : offset + 5], offset
        assert response.headers["x-total-count"] == str(len(items))
        assert ("link" in response.headers) == (offset + 5 < len(items)), offset


async def test_a_link_has_everything_that_the_next_page_needs(client: httpx.AsyncClient) -> None:
    await shelf(client)
    given = {"order": "-price", "limit": "1", "in_stock": "true", "price_min": "1e-320", "price_max": "1e+308"}
    params = {**given, "name_prefix": "l", "count": "true", "offset": "1"}
    url = urlsplit(next_url(await client.get("/items", params=params)) or "")
    following = {name: value for name, [value] in parse_qs(url.query, strict_parsing=True).items()}
    assert url.path == "/items"
    assert following.pop("after")
    numbers = {name: float(following.pop(name)) for name in ("price_min", "price_max")}
    assert numbers == {"price_min": 1e-320, "price_max": 1e308}
    assert following == {"order": "-price", "limit": "1", "in_stock": "true", "name_prefix": "l"}


async def test_there_is_a_link_if_and_only_if_there_is_more(resource: ResourceClient) -> None:
    await resource.create(count=5)
    for limit in (1, 2, 4, 5, 6, 1000):
        response = await resource.client.get(resource.path, params={"limit": limit})
        assert ("link" in response.headers) == (limit < 5)


async def test_equal_lists_that_are_asked_for_at_once_are_equal_in_every_form(client: httpx.AsyncClient) -> None:
    await shelf(client)
    forms = ["application/json", "application/msgpack"] * 16
    url = "/items?limit=3&order=name&count=true"
    responses = await asyncio.gather(*(client.get(url, headers={"accept": form}) for form in forms))
    assert [response.headers["content-type"] for response in responses] == forms
    assert len({response.content for response in responses}) == 2
    assert len({(response.headers["link"], response.headers["x-total-count"]) for response in responses}) == 1


async def test_the_ids_of_a_list_exclude_everything_else(client: httpx.AsyncClient) -> None:
    await shelf(client)
    others = ("limit=5", "order=-id", "in_stock=true", "price_min=1", "price_max=1", "name_prefix=l", "offset=1")
    for other in (*others, "count=true", "after=x"):
        response = await client.get(f"/items?ids=1&{other}")
        assert (code(response), pointers(response)) == ((400, "invalid-query"), []), other
