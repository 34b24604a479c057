"""Memory: what a request needed is let go of with its response, however long its client would have waited."""

import gc
from secrets import token_hex
from typing import Any

import httpx
import pytest

from service.resources.items import ItemResponse
from service.resources.users import UserResponse
from tests.support.resources import ResourceClient
from tests.support.waiting import until

MARK = "marked-" + "x" * 40
PATIENCE = {"x-request-timeout": "100"}
ROWS = (ItemResponse, UserResponse)


def is_kept() -> bool:
    """Return whether any object refers to a row, or to a body with the mark; a driver may keep its last message."""
    gc.collect()
    return any(
        type(referent) in ROWS
        or (type(referent) is bytes and referent[:1] in {b"{", b"["} and MARK.encode() in referent)
        for each in gc.get_objects()
        for referent in gc.get_referents(each)
    )


def marked(resource: ResourceClient, **fields: Any) -> dict[str, Any]:
    """Return a body with the mark in its name."""
    return resource.new(**fields) | {"name": MARK}


async def send(client: httpx.AsyncClient, resource: ResourceClient) -> None:
    """Send every kind of request with a long time limit, and forget the responses."""
    path = resource.path
    for with_key in (False, True):
        headers = PATIENCE | ({"idempotency-key": token_hex()} if with_key else {})
        one = await client.post(path, json=marked(resource), headers=headers)
        id = one.json()["id"]
        headers = PATIENCE | ({"idempotency-key": token_hex()} if with_key else {})
        many = await client.post(path, json=[marked(resource), marked(resource)], headers=headers)
        ids = [row["id"] for row in many.json()]
        assert (one.status_code, many.status_code) == (201, 201)
        for method, url, body in (
            ("GET", f"{path}/{id}", None),
            ("GET", path, None),
            ("GET", f"{path}?count=true", None),
            ("GET", f"{path}?ids={id},{ids[0]}", None),
            ("PATCH", f"{path}/{id}", {"name": MARK}),
            ("PUT", f"{path}/{id}", marked(resource)),
            ("PATCH", path, [{"id": each, "name": MARK} for each in ids]),
            ("DELETE", f"{path}/{id}", None),
            ("DELETE", f"{path}?ids={ids[0]}", None),
        ):
            response = await client.request(method, url, json=body, headers=headers)
            assert response.status_code in {200, 204}, (method, url, response.text)
            assert MARK in response.text or method == "DELETE"


async def test_nothing_of_a_response_is_kept_until_the_time_limit_is_over(
    client: httpx.AsyncClient, resource: ResourceClient
) -> None:
    await send(client, resource)
    await until(lambda: not is_kept())


@pytest.mark.parametrize("settings", [{"coalesce": False}], indirect=True)
async def test_nor_without_coalescing(client: httpx.AsyncClient, resource: ResourceClient) -> None:
    await send(client, resource)
    await until(lambda: not is_kept())
