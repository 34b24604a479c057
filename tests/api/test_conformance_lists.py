"""Every list of ROUTES: its orders and pages, its filters, its cursors, and the ids that it is asked for."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from operator import eq, ge, le
from typing import Any, get_type_hints
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from service.schemas import ListQuery
from tests.support.refusals import UNKNOWN_ID
from tests.support.resources import COLLECTIONS, FOLDED, Body, Collection, Request, ResourceClient, content
from tests.support.responses import ENCODE, code, next_url, pages, pointers, walked

pytestmark = pytest.mark.usefixtures("documented")

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"": eq, "_min": ge, "_max": le, "_prefix": str.startswith}


async def filled(resource: ResourceClient) -> list[Body]:
    """Create rows, of two times, that share three values of each field that is not unique, null where it may be."""
    shared = [resource.new(**resource.null), resource.new(), resource.new()]
    bodies = []
    for number in range(14):
        own = resource.new()
        unique = {name: own[name] for name in resource.collection.unique}
        bodies.append({**shared[number * 5 % 3], **unique})
    return [*await resource.create(*bodies[:8]), *await resource.create(*bodies[8:])]


def ordered(collection: Collection, rows: list[Body], order: str) -> list[Body]:
    """Sort rows as Python does, those that are equal by id."""
    name = order.removeprefix("-")

    def key(row: Body) -> tuple[Any, int]:
        value = row[name]
        if name.endswith("_at"):  # as text, a full second without a fraction would be the last
            value = datetime.fromisoformat(value)
        return collection.comparable(name, value), row["id"]

    return sorted(rows, key=key, reverse=order.startswith("-"))


async def test_every_order_is_walked_in_pages_with_ties_in_the_order_of_ids(resource: ResourceClient) -> None:
    rows = await filled(resource)
    for order in resource.collection.orders:
        expected = ordered(resource.collection, rows, order)
        walk = [page async for page in pages(resource.client, f"{resource.path}?order={order}&limit=4")]
        assert [row for page in walk for row in page] == expected, order
        assert [len(page) for page in walk] == [4, 4, 4, 2]
        skipped = await resource.client.get(resource.path, params={"order": order, "offset": 3, "limit": 5})
        assert skipped.json() == expected[3:8]
        assert await walked(resource.client, next_url(skipped) or "") == expected[8:]
    assert (await resource.client.get(resource.path)).json() == rows


async def test_a_cursor_is_refused_by_every_other_list_and_order(resource: ResourceClient) -> None:
    await filled(resource)
    for order in resource.collection.orders:
        url = next_url(await resource.client.get(f"{resource.path}?order={order}&limit=1")) or ""
        [after] = parse_qs(urlsplit(url).query)["after"]
        for other in COLLECTIONS:
            for other_order in other.orders:
                is_own = (other, other_order) == (resource.collection, order)
                response = await resource.client.get(other.path, params={"order": other_order, "after": after})
                assert is_own or code(response) == (400, "invalid-cursor"), (order, other.path, other_order)
                assert not is_own or response.status_code == 200
        for wrong in (after[:-1], after[1:], "", f"{after}A"):
            response = await resource.client.get(resource.path, params={"order": order, "after": wrong})
            assert code(response) == (400, "invalid-cursor")


def beginning(one: str, other: str) -> str:
    """Return how two names begin alike."""
    return next(one[:end] for end in range(len(one), -1, -1) if other.startswith(one[:end]))


def meaning(collection: Collection, name: str) -> tuple[str, Callable[[Any, Any], bool] | None]:
    """Return the field that a filter is named after, and its comparison, or None if it asks whether there is a value.

    What a filter does, its name alone shows: that of a field, maybe with the suffix of a comparison; or it begins as
    that of a field that may be null, as `owned` and `owner_id` do.
    """
    for suffix, compare in COMPARISONS.items():
        field = name.removesuffix(suffix)
        if field + suffix == name and field in collection.shown:
            return field, compare
    nullable = [column.name for column in collection.table.c if column.nullable and column.name in collection.shown]
    field = max(nullable, key=lambda one: len(beginning(one, name)), default="")
    assert beginning(field, name), f"what the filter {name} does not show in its name"
    return field, None


def matching(collection: Collection, rows: list[Body], name: str, wanted: Any) -> list[Body]:
    """Return the rows that match a filter; null is less than nothing, and equals nothing."""
    field, compare = meaning(collection, name)
    if compare is None:
        return [row for row in rows if (row[field] is not None) is wanted]
    have = [(row, collection.comparable(field, row[field])) for row in rows if row[field] is not None]
    return [row for row, value in have if compare(value, collection.comparable(field, wanted))]


async def test_every_filter_selects_the_rows_that_match_in_every_order_and_counts_them(
    resource: ResourceClient,
) -> None:
    rows, collection = await filled(resource), resource.collection
    for name in collection.query.kinds.keys() - get_type_hints(ListQuery).keys():
        field, compare = meaning(collection, name)
        values: list[Any] = sorted({row[field] for row in rows} - {None}) if compare else [True, False]
        values += [value[:-1] for value in values] if compare is str.startswith else []
        values += [value.upper() for value in values] if field + FOLDED in collection.table.c else []
        for number in range(max(len(values), len(collection.orders))):
            value, order = values[number % len(values)], collection.orders[number % len(collection.orders)]
            expected = ordered(collection, matching(collection, rows, name, value), order)
            url = httpx.URL(resource.path, params={name: value, "order": order, "count": True, "limit": 5})
            assert await walked(resource.client, str(url)) == expected, url
            assert (await resource.client.get(url)).headers["x-total-count"] == str(len(expected))
        assert any(0 < len(matching(collection, rows, name, value)) < len(rows) for value in values), name


async def test_ids_are_returned_in_their_order_and_exclude_all_other_parameters(resource: ResourceClient) -> None:
    rows = await resource.create(count=4)
    url = resource.ids_url(rows[2], {"id": UNKNOWN_ID}, rows[0], rows[3])
    assert (await resource.client.get(url)).json() == [rows[2], rows[0], rows[3]]
    for other in ("limit=5", "offset=1", "count=true", f"order={resource.collection.orders[0]}", "after=x"):
        response = await resource.client.get(f"{url}&{other}")
        assert code(response) == (400, "invalid-query"), other
    for wrong in ("", "1,1", "1,", "x", "0", ",".join(map(str, range(1, 1002)))):
        requests = [Request(method, f"{resource.path}?ids={wrong}") for method in ("GET", "DELETE")]
        for request in filter(resource.operation, requests):
            response = await resource.send(request)
            assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/ids"])
    assert await resource.everything() == rows


async def test_equal_lists_at_once_are_equal_in_each_media_type_and_never_old(resource: ResourceClient) -> None:
    rows: list[Body] = []
    for _ in range(3):
        rows += await resource.create(count=2)
        lists = [resource.send(Request("GET", resource.path), media_type) for media_type in [*ENCODE] * 4]
        assert [content(response) for response in await asyncio.gather(*lists)] == [rows] * 8
