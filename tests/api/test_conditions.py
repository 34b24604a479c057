"""Requests under a condition: If-None-Match for reading, If-Match for writing (RFC 9110, section 13)."""

import asyncio
from itertools import product

import pytest

from tests.support.resources import Body, Request, ResourceClient
from tests.support.responses import code

# Of a row at version 2.
NAMES_IT = {
    "its tag": '"2-json"',
    "its tag in the other media type": '"2-msgpack"',
    "anything": "*",
    "anything, with blanks": " * ",
    "a list": '"1-json", "2-json"',
    "a list without blanks": '"1-json","2-json","7-json"',
    "a list with empty elements": ', "2-json",, "7-json" , ',
    "a list with weak and foreign tags": 'W/"1-json", "etag", "2-json", ""',
    "the same tag twice": '"2-json", "2-json"',
    "a list of one": '"2-json",',
    "its tag, as nginx and HAProxy compress": 'W/"2-json"',
    "its tag in the other media type, as nginx compresses": 'W/"2-msgpack"',
    "its tag, as Apache and Caddy compress": '"2-json-gzip"',
    "its tag, as Caddy compresses": 'W/"2-json-zstd"',
    "a list of weak tags": 'W/"1-json", W/"2-json"',
}
MISSES_IT = {
    "an older tag": '"1-json"',
    "a newer tag": '"3-json"',
    "a list of others": '"1-json", "3-json"',
    "an older tag, weak": 'W/"1-json"',
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
NAMES_NO_VERSION = {
    "a foreign tag": '"2"',
    "a weak one": 'W/"2"',
    "a weak list": 'W/"2-xml", W/"etag"',
    "a tag with the items": 'W/"2-json-0123456789ab"',
    "no tag": "",
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


async def at_version_2(resource: ResourceClient) -> Body:
    [row] = await resource.create()
    return dict((await resource.client.patch(resource.url(row), json=resource.change())).json())


def writes(resource: ResourceClient, row: Body, other: Body) -> list[Request]:
    """Return each write of one row."""
    return [request for request in resource.writes(row, other) if resource.is_of_one(request)]


async def test_a_write_happens_if_the_condition_names_the_row_as_it_is(full_resource: ResourceClient) -> None:
    for what, tags in NAMES_IT.items():
        [other] = await full_resource.create()
        for place in range(len(writes(full_resource, other, other))):
            row = await at_version_2(full_resource)
            request = writes(full_resource, row, other)[place]
            response = await full_resource.send(request, **{"if-match": tags})
            assert response.status_code == (204 if request.method == "DELETE" else 200), (what, request)
            found = await full_resource.client.get(full_resource.ids_url(row))
            assert [one["version"] for one in found.json()] == ([] if request.method == "DELETE" else [3]), what


@pytest.mark.parametrize(
    ("conditions", "expected"), [(MISSES_IT, (412, "stale")), (MALFORMED, (400, "invalid-header"))]
)
async def test_a_write_is_refused_if_the_condition_names_the_row_otherwise_or_is_malformed(
    full_resource: ResourceClient, conditions: dict[str, str], expected: tuple[int, str]
) -> None:
    row = await at_version_2(full_resource)
    for what, tags in conditions.items():
        for request in writes(full_resource, row, row):
            assert code(await full_resource.send(request, **{"if-match": tags})) == expected, (what, request)
    assert await full_resource.everything() == [row]


@pytest.mark.parametrize("with_key", [False, True], ids=["without a key", "under a key"])
async def test_a_condition_that_no_version_can_fulfil_is_a_412_that_says_so(
    full_resource: ResourceClient, *, with_key: bool
) -> None:
    row = await at_version_2(full_resource)
    for what, tags in NAMES_NO_VERSION.items():
        for request in writes(full_resource, row, row):
            key = {"idempotency-key": f"{what} {request.url}".replace(" ", "-")} if with_key else {}
            response = await full_resource.send(request, **{"if-match": tags}, **key)
            assert code(response) == (412, "stale"), (what, request)
            assert response.json()["detail"].startswith('If-Match has no tag that a response had, such as "1-json"')
    older = await full_resource.send(writes(full_resource, row, row)[0], **{"if-match": 'W/"1-json"'})
    assert older.json()["detail"] == f"The version has moved on for the id {row['id']}."


@pytest.mark.parametrize("tags", ['"1-json"', '"1-json", "2-json"', "*", 'W/"1-json"', 'W/"etag"'])
async def test_what_is_not_there_is_not_stale(full_resource: ResourceClient, tags: str) -> None:
    for request in writes(full_resource, {"id": 424242}, {"id": 1}):
        response = await full_resource.send(request, **{"if-match": tags})
        assert code(response) == (404, f"{full_resource.noun}-not-found")


async def test_an_empty_patch_is_under_the_condition_too(full_resource: ResourceClient) -> None:
    empty = Request("PATCH", full_resource.url(await at_version_2(full_resource)), {})
    responses = [await full_resource.send(empty, **{"if-match": f'"{version}-json"'}) for version in (1, 2, 3)]
    assert [response.status_code for response in responses] == [412, 200, 412]


async def test_a_condition_may_come_in_several_headers(full_resource: ResourceClient) -> None:
    client, row = full_resource.client, await at_version_2(full_resource)
    url, version = full_resource.url(row), 2
    for other in ('"1-json"', "", 'W/"9-json"'):
        for first in (True, False):
            tags = [f'"{version}-json"', other] if first else [other, f'"{version}-json"']
            got = await client.get(url, headers=[("if-none-match", tag) for tag in tags])
            headers = [("if-match", tag) for tag in tags]
            changed = await client.patch(url, json=full_resource.change(), headers=headers)
            assert (got.status_code, changed.status_code) == (304, 200), tags
            version += 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_that_has_the_row_gets_a_304(full_resource: ResourceClient, method: str) -> None:
    request = Request(method, full_resource.url(await at_version_2(full_resource)))
    appended = ('"2-json-gzip"', 'W/"2-json-br"', '"1-json", "2-json-zstd"')  # by proxies that compress
    for tags in ('"2-json"', 'W/"2-json"', "*", '"1-json", "2-json"', ',W/"1-json",,W/"2-json"', *appended):
        response = await full_resource.send(request, **{"if-none-match": tags})
        assert (response.status_code, response.content) == (304, b""), tags
        assert response.headers["etag"] == '"2-json"'
        assert response.headers["vary"] == "Accept"
        assert "content-length" not in response.headers


async def test_a_client_with_another_version_or_form_gets_the_row(full_resource: ResourceClient) -> None:
    row = await at_version_2(full_resource)
    for tags in ('"1-json"', '"3-json"', '"2-msgpack"', '"2"', '"02-json"', '""', "", ", ,", 'W/"1-json"'):
        response = await full_resource.send(Request("GET", full_resource.url(row)), **{"if-none-match": tags})
        assert (response.status_code, response.headers["etag"]) == (200, '"2-json"'), tags
        assert response.json() == row


async def test_a_malformed_condition_on_reading_is_refused(full_resource: ResourceClient) -> None:
    request = Request("GET", full_resource.url(await at_version_2(full_resource)))
    for what, tags in MALFORMED.items():
        assert code(await full_resource.send(request, **{"if-none-match": tags})) == (400, "invalid-header"), what


async def test_what_is_not_there_is_not_unchanged(full_resource: ResourceClient) -> None:
    response = await full_resource.send(Request("GET", full_resource.url({"id": 1000})), **{"if-none-match": "*"})
    assert code(response) == (404, f"{full_resource.noun}-not-found")


async def test_a_write_under_a_condition_that_is_not_for_it_does_not_happen(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=2)
    for request in full_resource.writes(*rows):
        names = ["if-none-match"] if full_resource.is_of_one(request) else ["if-none-match", "if-match"]
        for name, tags in product(names, ("*", '"1-json"', '"7-json"', "malformed")):
            response = await full_resource.send(request, **{name: tags})
            assert code(response) == (400, "invalid-header"), (request, name, tags)
    assert await full_resource.everything() == rows


@pytest.mark.parametrize("with_key", [False, True], ids=["without a key", "under a key"])
async def test_one_of_several_versions_is_enough_while_another_client_writes(
    full_resource: ResourceClient, *, with_key: bool
) -> None:
    for number in range(30):
        [row] = await full_resource.create()
        headers = {"if-match": '"1-json", "2-json"', **({"idempotency-key": f"{number}"} if with_key else {})}
        url = full_resource.url(row)
        conditional, other = (Request("PATCH", url, full_resource.change()) for _ in range(2))
        first, second = await asyncio.gather(full_resource.send(conditional, **headers), full_resource.send(other))
        assert (first.status_code, second.status_code) == (200, 200)
