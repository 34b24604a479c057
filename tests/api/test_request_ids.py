"""Request ids: the client's own if it is one, and otherwise a unique one."""

import asyncio
import re

import httpx
import pytest

from tests.support.responses import create_item, problem

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)

OURS = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")
GOOD = ("a", "7", ".", "-", "_", "order-7.1_B", "a" * 128, "0af7651916cd43dd8448eb211c80319c", "..", "NULL")
BAD = (
    *("", " ", "a b", "a" * 129, "a" * 100_000, "a;b", "a,b", "a/b", "a:b", "a=b", '"a"', "<a>", "{a}", "a\tb", "a\\n"),
    *("\u00e9", "a\u00a0", "%61", "a%0d%0aset-cookie: x=1", "$(id)", "*", "~", "a+b", "a@b", "#", "a|b"),
)


async def test_a_good_request_id_is_given_back(client: httpx.AsyncClient) -> None:
    for request_id in GOOD:
        response = await client.get("/livez", headers={"x-request-id": request_id})
        assert response.headers.get_list("x-request-id") == [request_id]
        response = await client.get("/nowhere", headers={"X-REQUEST-ID": request_id})
        assert problem(response)["request_id"] == request_id


async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient) -> None:
    for request_id in BAD:
        for path in ("/livez", "/nowhere"):
            response = await client.get(path, headers=[(b"x-request-id", request_id.encode("latin-1"))])
            assert OURS.fullmatch(response.headers["x-request-id"]), request_id


async def test_of_several_request_ids_the_first_good_one_is_given_back(client: httpx.AsyncClient) -> None:
    headers = [("x-request-id", "a b"), ("x-request-id", "first"), ("x-request-id", "second")]
    assert (await client.get("/livez", headers=headers)).headers.get_list("x-request-id") == ["first"]


async def test_every_response_has_a_request_id_of_its_own(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    url = f"/items/{item['id']}"
    calls = [("GET", url), ("HEAD", url), ("GET", "/items"), ("GET", "/"), ("POST", "/"), *[("DELETE", url)] * 2]
    responses = [await client.request(method, path) for method, path in calls]
    responses += [await client.get("/livez", headers={"accept": "text/html"})]
    responses += await asyncio.gather(*(client.get("/livez") for _ in range(64)))
    ids = [response.headers["x-request-id"] for response in responses]
    assert all(map(OURS.fullmatch, ids))
    assert len(set(ids)) == len(ids)


async def test_a_client_that_has_the_item_gets_a_304_with_a_request_id(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    headers = {"if-none-match": "*", "x-request-id": "abc"}
    response = await client.get(f"/items/{item['id']}", headers=headers)
    assert (response.status_code, response.headers["x-request-id"]) == (304, "abc")
