"""Paths where nothing is, methods that a path does not have, and parameters that are unknown or wrong."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.responses import JSON, MSGPACK, code, create_item, everything, pointers

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
ALLOWED = {
    "/items": {"GET", "HEAD", "POST", "PATCH", "DELETE"},
    "/items/1": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "/items/2": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "/items/nonsense": {"GET", "HEAD", "PUT", "PATCH", "DELETE"},
    "/livez": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
}
NOWHERE = (
    *("/", "/item", "/items/", "//items", "/items//1", "/items/1/", "/items/1/2", "/Items", "/ITEMS/1", "/items.json"),
    *("/livez/", "/readyz/", "/openapi", "/openapi.json/", "/items%00", "/items%2F", "/items/1%2F2"),
    *("/items%3Flimit=1", "/items;limit=1", "/items,1", "/favicon.ico", "/robots.txt", "/%FF", "/%2e%2e/etc/passwd"),
    *("/" + "x" * 10_000, "/items/" + "1/" * 1000, "/%F0%9F%92%A1", "/items\u00a0"),
)
NO_ID = (
    *("0", "-1", "-0", "+1", "007", "01", "00", "1.0", "1.5", "1e0", "1_0", "0x1", "0b1", "1,2", "1;2", "1&2", "1=1"),
    *("9223372036854775808", "18446744073709551616", "-9223372036854775809", "9" * 5000, "0" * 5000 + "1"),
    *("%00", "1%00", "%001", "%201", "1%20", "1%0A", "%091", "%FF", "1%FF", "%C0%B1", "%ED%A0%80"),
    *("%D9%A1", "%EF%BC%91", "%E0%A7%A7", "%C2%B2", "%E2%91%A0", "%F0%9D%9F%8F", "%E2%88%92" + "1", "%E2%80%8B1"),
    *(
        "nan",
        "inf",
        "null",
        "true",
        "True",
        "None",
        "abc",
        "a" * 5000,
        "%5B1%5D",
        "%221%22",
        "'1'",
        "*",
        "~",
        ":",
        "1:1",
    ),
)

# Query strings of GET /items, and the parameters that are wrong.
BAD_QUERIES: dict[str, list[str]] = {
    **{f"limit={value}": ["limit"] for value in ("0", "-1", "1001", "abc", "", "1.5", "1e400", "+1", "%2B1", "007")},
    **{f"limit={value}": ["limit"] for value in ("1%00", "%201", "1_0", "0x10", "nan", "inf", "null", "true", "[1]")},
    **{f"limit={value}": ["limit"] for value in ("%D9%A1", "9223372036854775808", "18446744073709551616", "9" * 5000)},
    **{
        f"offset={value}": ["offset"]
        for value in ("-1", "10001", "x", "", "0.5", "9" * 5000, str(2**63), "-" + "9" * 5000)
    },
    **{
        f"order={value}": ["order"] for value in ("", "-", "version", "Name", "+name", "--name", "name,id", "name desc")
    },
    **{f"order={value}": ["order"] for value in ("%00", "updated_at", "in_stock", "-%20id", "id;", "x" * 10_000)},
    **{
        f"in_stock={value}": ["in_stock"]
        for value in ("1", "0", "TRUE", "True", "yes", "on", "", "null", "true%20", "2")
    },
    **{f"count={value}": ["count"] for value in ("1", "0", "TRUE", "", "yes", "exact", "null")},
    **{f"price_min={value}": ["price_min"] for value in ("nan", "NaN", "inf", "Infinity", "-inf", "1e400", "-1e400")},
    **{
        f"price_min={value}": ["price_min"]
        for value in ("-1", "-5e-324", "", "abc", "1,5", "0x1", "1_0", "%201", "null")
    },
    **{
        f"price_max={value}": ["price_max"]
        for value in ("nan", "inf", "1e400", "-1", "", "1.", "--1", "9" * 5000, "%001")
    },
    **{
        f"name_prefix={value}": ["name_prefix"]
        for value in ("", "%00", "a%00", "%00a", "x" * 256, "%F0%9F%92%A1" * 256)
    },
    "colour=red": ["colour"],
    "=": [""],
    "=1": [""],
    "limit": ["limit"],
    "Limit=1": ["Limit"],
    "limit%00=1": ["limit\x00"],
    "limit[]=1": ["limit[]"],
    "limit=5;count=true": ["limit"],
    "%F0%9F%92%A1=1": ["\U0001f4a1"],
    "x" * 10_000: ["x" * 255],
    "limit=1&limit=1": ["limit"],
    "limit=1&limit=x&limit=0": ["limit", "limit"],
    "order=id&order=name": ["order"],
    "ids=1&ids=1": ["ids"],
    "ids=1&ids=": ["ids"],
    "ids=1&ids=x": ["ids"],
    "ids=1,2&ids=2": ["ids"],
    "&".join(["ids=1"] * 1032): ["ids"],
    "limit=0&order=x&offset=-1&colour=red&count=1": ["limit", "order", "offset", "colour", "count"],
}
UNREADABLE = (
    *(
        "limit=%FF",
        "%FF=1",
        "name_prefix=%C3",
        "name_prefix=%C0%AF",
        "name_prefix=%ED%A0%80",
        "name_prefix=%F4%90%80%80",
    ),
    "&".join([*(f"ids={n}" for n in range(1, 1001)), *(f"x{n}=1" for n in range(33))]),
    *("name_prefix=caf%E9", "after=%80", "&".join(f"x{n}=1" for n in range(33)), "&".join(["limit=1"] * 5000)),
)


def sent_with(method: str) -> dict[str, Any]:
    """Return what makes a request whole but for its address."""
    bodies = {"PUT": b'{"name": "desk", "price": 1}', "PATCH": b'{"price": 1}', "POST": b'{"name": "desk", "price": 1}'}
    return {"content": bodies.get(method), "headers": {"content-type": JSON}}


async def test_where_nothing_is_every_method_is_a_404(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for path in NOWHERE:
        for method in METHODS:
            response = await client.request(method, path, **sent_with(method))
            assert response.status_code == 404, (method, path[:50])
            assert method == "HEAD" or code(response) == (404, "no-such-path"), (method, path[:50])
    assert await everything(client) == [item]


async def test_an_id_is_a_number_in_its_only_spelling(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for id in NO_ID:
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            response = await client.request(method, f"/items/{id}", **sent_with(method))
            assert code(response) == (404, "no-such-path"), (method, id[:50])
    assert await everything(client) == [item]


async def test_an_address_may_be_escaped_as_one_likes(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    assert (await client.get("/%69tems/%31")).json() == item
    assert (await client.get("/items?%6Cimit=%31&")).json() == [item]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_method_that_a_path_does_not_have_is_a_405_with_all_it_has(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for path, allowed in ALLOWED.items():
        for method in METHODS:
            if method in allowed:
                continue
            for accept in (JSON, MSGPACK, "text/html"):
                response = await client.request(method, f"{path}?x=1", headers={"accept": accept})
                assert code(response) == (405, "method-not-allowed"), (method, path)
                assert response.headers["allow"] == ", ".join(sorted(allowed)), (method, path)
    assert await everything(client) == [item]


async def test_a_parameter_of_the_list_that_is_wrong_is_named(client: httpx.AsyncClient) -> None:
    for query, names in BAD_QUERIES.items():
        response = await client.get(f"/items?{query}")
        assert code(response) == (400, "invalid-query"), query[:50]
        assert pointers(response) == [f"/{name}" for name in names], query[:50]


async def test_a_parameter_that_is_wrong_is_told_what_it_may_be(client: httpx.AsyncClient) -> None:
    details = {
        "/items?in_stock=True": "Expected true or false",
        "/items?count=1": "Expected true or false",
        "/items?limit=abc": "Expected an integer",
        "/items?limit=0": "Expected an integer >= 1",
        "/items?ids=1,x": "Expected an integer",
        "/items?price_min=abc": "Expected a number",
        "/items?name_prefix=": "Expected a string of length >= 1",
        "/items?name_prefix=%00": r"Expected a string that matches ^[^\x00]*$",
        "/users?order=x": "Expected one of id, -id, username, -username, email, -email, created_at, -created_at",
        "/users?role=x": "Expected one of reader, writer, admin",
        "/users/1?include=x": "Expected one of items",
    }
    for url, detail in details.items():
        response = await client.get(url)
        assert code(response) == (400, "invalid-query")
        assert [error["detail"] for error in response.json()["errors"]] == [detail], url


async def test_a_query_that_cannot_be_read_is_refused(client: httpx.AsyncClient) -> None:
    for query in UNREADABLE:
        for path in ("/items", "/items/1", "/openapi.json"):
            response = await client.get(f"{path}?{query}")
            assert code(response) == (400, "invalid-query"), query[:50]
            assert pointers(response) == [], query[:50]


async def test_where_no_parameter_is_known_every_one_is_refused(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    calls = [
        ("GET", "/items/1"),
        ("PUT", "/items/1"),
        ("PATCH", "/items/1"),
        ("DELETE", "/items/1"),
        ("POST", "/items"),
    ]
    for method, path in [*calls, ("PATCH", "/items"), ("GET", "/openapi.json")]:
        for query, names in (("x=1", ["x"]), ("limit=1", ["limit"]), ("x", ["x"]), ("a=1&b=2", ["a", "b"])):
            response = await client.request(method, f"{path}?{query}", **sent_with(method))
            assert code(response) == (400, "invalid-query"), (method, path)
            assert pointers(response) == [f"/{name}" for name in names], (method, path)
    response = await client.delete("/items?ids=1&limit=1")
    assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/limit"])
    assert await everything(client) == [item]


async def test_a_question_mark_alone_is_no_parameter(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    assert (await client.get("/items/1?")).json() == item
    assert (await client.get("/items?")).json() == [item]


async def test_what_is_escaped_in_a_parameter_is_what_is_meant(client: httpx.AsyncClient) -> None:
    item = await create_item(client, name="a+b &=%#?\U0001f4a1;/")
    response = await client.get(f"/items?name_prefix={quote(item['name'], safe='')}")
    assert response.json() == [item]
    blank = await create_item(client, name="a b")
    assert (await client.get("/items?name_prefix=a+b")).json() == [blank]
