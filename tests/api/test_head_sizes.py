"""Small heads: proxies have 4 KiB for that of a response, whatever its links have to carry."""

import httpx
import pytest

from service.resources.items import COLLECTION
from tests.support.responses import code, create_batch, next_url
from tests.support.users import create_user

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

HEAD_BYTES_MAX = 4096  # what nginx has for the head of a response, unless it is told otherwise


def head_bytes(response: httpx.Response) -> int:
    """Return the bytes of a response's head."""
    return sum(len(name) + len(value) + len(": \r\n") for name, value in response.headers.raw)


@pytest.mark.parametrize("order", ["name", "-name", "id", "price", "created_at"])
async def test_the_head_of_a_page_is_below_4_kib_however_long_names_and_filters_are(
    client: httpx.AsyncClient, order: str
) -> None:
    name = "\U0001f4a1" * 255
    items = await create_batch(client, [{"name": name, "price": 9.5}] * 3 + [{"name": name[1:], "price": 9.5}])
    filters = {"in_stock": "true", "price_min": "2.2250738585072014e-308", "price_max": "1.7976931348623157e+308"}
    for length in (1, 127, 128, 129, 130, 254, 255):
        params = {"order": order, "limit": "1", "owned": "false", "name_prefix": name[:length], **filters}
        url, found = str(httpx.URL("/items", params=params)), []
        while url:
            response = await client.get(url, headers={"x-request-id": "x" * 128})
            assert head_bytes(response) < HEAD_BYTES_MAX - len("HTTP/1.1 200 OK\r\n\r\n")
            found += response.json()
            url = next_url(response) or ""
        kept = [item for item in items if item["name"].startswith(name[:length])]
        assert sorted(item["id"] for item in found) == [item["id"] for item in kept]


async def test_the_head_of_a_page_of_users_is_below_4_kib(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await create_user(client, username="u" * 49 + str(number), email="\U0001f4a1" * 253 + f"@{number}")
    for order in ("id", "username", "email", "created_at"):
        response = await client.get("/users", params={"order": order, "limit": 1})
        assert next_url(response)
        assert head_bytes(response) < HEAD_BYTES_MAX


async def test_a_cursor_that_needs_its_filter_is_refused_with_another_and_others_go_with_any(
    client: httpx.AsyncClient,
) -> None:
    name = "\U0001f4a1" * 255
    items = await create_batch(client, [{"name": name, "price": 9.5}] * 2)
    given = {"order": "name", "limit": "1"}
    links = [await client.get("/items", params=given | more) for more in ({}, {"name_prefix": name})]
    alone, with_filter = [str(httpx.URL(next_url(response) or "").params["after"]) for response in links]
    for prefix in ({}, {"name_prefix": name[1:]}, {"name_prefix": "lamp"}):
        response = await client.get("/items", params=given | prefix | {"after": with_filter})
        assert code(response) == (400, "invalid-cursor")
    for prefix in ({}, {"name_prefix": name}, {"name_prefix": name[0]}):
        assert (await client.get("/items", params=given | prefix | {"after": alone})).json() == items[1:]


@on_sqlite
async def test_a_forged_cursor_of_a_longer_name_than_there_may_be_is_refused(client: httpx.AsyncClient) -> None:
    prefix = "\U0001f4a1" * 255
    forged = COLLECTION.listing.cursors._encode("name", "xx", 1, prefix[:-1])
    response = await client.get("/items", params={"order": "name", "name_prefix": prefix, "after": forged})
    assert code(response) == (400, "invalid-cursor")
