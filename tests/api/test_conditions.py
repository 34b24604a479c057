"""Requests under a condition: If-None-Match for reading, If-Match for writing (RFC 9110, section 13)."""

from typing import Any

import httpx
import pytest

from tests.support.answers import added, code, everything, read

BODIES: dict[str, Any] = {"PUT": {"name": "desk", "price": 1}, "PATCH": {"price": 1}, "DELETE": None}
SUCCESS = {"PUT": 200, "PATCH": 200, "DELETE": 204}
# Of an item at version 2.
NAMES_IT = {
    "its tag": '"2-json"',
    "its tag in the other media type": '"2-msgpack"',
    "anything": "*",
    "anything, with blanks": " * ",
    "a list": '"1-json", "2-json"',
    "a list without blanks": '"1-json","2-json","7-json"',
    "a list with empty elements": ', "2-json",, "7-json" , ',
    "a list with weak and foreign tags": 'W/"2-json", "etag", "2-json", ""',
    "the same tag twice": '"2-json", "2-json"',
    "a list of one": '"2-json",',
}
MISSES_IT = {
    "an older tag": '"1-json"',
    "a newer tag": '"3-json"',
    "a list of others": '"1-json", "3-json"',
    "a weak tag": 'W/"2-json"',
    "a foreign tag": '"2"',
    "an empty tag": '""',
    "an unknown media type's": '"2-xml"',
    "another spelling": '"02-json"',
    "a sign": '"+2-json"',
    "version 0": '"0-json"',
    "an int64": '"9223372036854775807-json"',
    "more than an int64": '"9223372036854775808-json"',
    "500 digits": f'"{"2" * 500}-json"',
    "no tag": "",
    "only commas": ", ,",
    "a comma inside": '"1,2-json"',
}
MALFORMED = {
    "no quotes": "2-json",
    "a blank inside": '" 2-json"',
    "no end": '"2-json',
    "no beginning": '2-json"',
    "no comma": '"2-json" "3-json"',
    "single quotes": "'2-json'",
    "a small w": 'w/"2-json"',
    "a blank after W/": 'W/ "2-json"',
    "anything in a list": '"2-json", *',
    "something after anything": "*, *",
    "a parameter": '"2-json";q=1',
    "a control character": '"2-json\t"',
}


async def at_version_2(client: httpx.AsyncClient) -> dict[str, Any]:
    item = await added(client)
    return dict((await client.patch(f"/items/{item['id']}", json={"price": 2})).json())


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_happens_if_the_condition_names_the_item_as_it_is(client: httpx.AsyncClient, method: str) -> None:
    for what, tags in NAMES_IT.items():
        item = await at_version_2(client)
        url = f"/items/{item['id']}"
        response = await client.request(method, url, json=BODIES[method], headers={"if-match": tags})
        assert response.status_code == SUCCESS[method], what
        gone = (await client.get(url)).status_code == 404
        assert gone or (await read(client, item["id"]))["version"] == 3, what


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_is_stale_if_the_condition_names_the_item_otherwise(
    client: httpx.AsyncClient, method: str
) -> None:
    item = await at_version_2(client)
    for what, tags in MISSES_IT.items():
        response = await client.request(method, f"/items/{item['id']}", json=BODIES[method], headers={"if-match": tags})
        assert code(response) == (412, "stale"), what
    assert await everything(client) == [item]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_under_a_malformed_condition_is_refused(client: httpx.AsyncClient, method: str) -> None:
    item = await at_version_2(client)
    for what, tags in MALFORMED.items():
        response = await client.request(method, f"/items/{item['id']}", json=BODIES[method], headers={"if-match": tags})
        assert code(response) == (400, "invalid-header"), what
    assert await everything(client) == [item]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("tags", ['"1-json"', '"1-json", "2-json"', "*", 'W/"1-json"'])
async def test_what_is_not_there_is_not_stale(client: httpx.AsyncClient, method: str, tags: str) -> None:
    response = await client.request(method, "/items/1", json=BODIES[method], headers={"if-match": tags})
    assert code(response) == (404, "item-not-found")


async def test_an_empty_patch_is_under_the_condition_too(client: httpx.AsyncClient) -> None:
    item = await at_version_2(client)
    statuses = [
        (await client.patch(f"/items/{item['id']}", json={}, headers={"if-match": f'"{version}-json"'})).status_code
        for version in (1, 2, 3)
    ]
    assert statuses == [412, 200, 412]


async def test_a_condition_may_come_in_several_headers(client: httpx.AsyncClient) -> None:
    item = await at_version_2(client)
    url, version = f"/items/{item['id']}", 2
    for other in ('"1-json"', "", 'W/"9-json"'):
        for first in (True, False):
            tags = [f'"{version}-json"', other] if first else [other, f'"{version}-json"']
            got = await client.get(url, headers=[("if-none-match", tag) for tag in tags])
            changed = await client.patch(url, json={"price": 3}, headers=[("if-match", tag) for tag in tags])
            assert (got.status_code, changed.status_code) == (304, 200), tags
            version += 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_item_already_is_told_so(client: httpx.AsyncClient, method: str) -> None:
    item = await at_version_2(client)
    for tags in ('"2-json"', 'W/"2-json"', "*", '"1-json", "2-json"', ',W/"1-json",,W/"2-json"'):
        response = await client.request(method, f"/items/{item['id']}", headers={"if-none-match": tags})
        assert (response.status_code, response.content) == (304, b""), tags
        assert response.headers["etag"] == '"2-json"'
        assert response.headers["vary"] == "Accept"
        assert "content-length" not in response.headers


async def test_who_has_another_version_or_form_is_given_the_item(client: httpx.AsyncClient) -> None:
    item = await at_version_2(client)
    for tags in ('"1-json"', '"3-json"', '"2-msgpack"', '"2"', '"02-json"', '""', "", ", ,", 'W/"1-json"'):
        response = await client.get(f"/items/{item['id']}", headers={"if-none-match": tags})
        assert (response.status_code, response.headers["etag"]) == (200, '"2-json"'), tags
        assert response.json() == item


async def test_a_malformed_condition_on_reading_is_refused(client: httpx.AsyncClient) -> None:
    item = await at_version_2(client)
    for what, tags in MALFORMED.items():
        response = await client.get(f"/items/{item['id']}", headers={"if-none-match": tags})
        assert code(response) == (400, "invalid-header"), what


async def test_what_is_not_there_is_not_unchanged(client: httpx.AsyncClient) -> None:
    response = await client.get("/items/1", headers={"if-none-match": "*"})
    assert code(response) == (404, "item-not-found")


NOT_FOR_IT = [
    *((method, "/items/1", body, "if-none-match") for method, body in BODIES.items()),
    *(("POST", "/items", {"name": "desk", "price": 1}, name) for name in ("if-match", "if-none-match")),
    *(("PATCH", "/items", [{"id": 1, "price": 1}], name) for name in ("if-match", "if-none-match")),
    *(("DELETE", "/items?ids=1", None, name) for name in ("if-match", "if-none-match")),
]


async def test_a_write_under_a_condition_that_is_not_for_it_does_not_happen(client: httpx.AsyncClient) -> None:
    item = await added(client)
    assert item["id"] == 1
    for method, url, body, name in NOT_FOR_IT:
        for tags in ("*", '"1-json"', '"7-json"', "malformed"):
            response = await client.request(method, url, json=body, headers={name: tags})
            assert code(response) == (400, "invalid-header"), (method, url, name, tags)
    assert await everything(client) == [item]


async def test_every_change_has_a_tag_of_its_own(client: httpx.AsyncClient) -> None:
    item = await added(client)
    changes = [await client.patch(f"/items/{item['id']}", json={"price": price}) for price in (1, 2, 2)]
    assert [change.headers["etag"] for change in changes] == ['"2-json"', '"3-json"', '"4-json"']
