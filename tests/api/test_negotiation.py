"""JSON and MessagePack, in and out."""

from datetime import UTC, datetime
from itertools import product
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.resources import Request, ResourceClient, content
from tests.support.responses import ENCODE, JSON, MSGPACK, PROBLEM, code, create_item, everything

MERGE_PATCH = "application/merge-patch+json"
TAGS = {JSON: '"1-json"', MSGPACK: '"1-msgpack"'}
LAMP = {"name": "lamp \U0001f4a1", "price": 0.1 + 0.2, "in_stock": False}
ACCEPTED = {
    "application/json": JSON,
    "application/msgpack": MSGPACK,
    "APPLICATION/MsgPack": MSGPACK,
    "*/*": JSON,
    "application/*": JSON,
    "": JSON,
    " , ": JSON,
    "application/json, application/msgpack": JSON,
    "application/msgpack, application/json": JSON,
    "application/msgpack;q=1, application/json;q=0.9": MSGPACK,
    "application/msgpack;q=0.001, application/json;q=0": MSGPACK,
    "application/json;q=0.5, application/msgpack;q=0.6": MSGPACK,
    "application/msgpack, */*;q=0.1": MSGPACK,
    "*/*, application/json;q=0.1": MSGPACK,
    "application/*, application/json;q=0": MSGPACK,
    "application/*;q=0.1, */*;q=0.9, application/json;q=0.2": JSON,
    "application/json;q=0, */*": MSGPACK,
    "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8": JSON,
    "text/html;q=1, application/msgpack;q=0.1": MSGPACK,
    'application/json;profile="a,b"': JSON,
    "application/json;version=1 ; q = 0.5 , application/msgpack;Q=0.7": MSGPACK,
    "nonsense, application/msgpack": MSGPACK,
    "application/problem+json": JSON,
    "text/html, Application/Problem+JSON; charset=utf-8": JSON,
    "application/problem+json, application/msgpack": MSGPACK,
    "application/problem+json, application/msgpack;q=0.1": MSGPACK,
    "application/problem+json, application/json": JSON,
    "application/problem+json, */*;q=0.1": JSON,
}
UNACCEPTABLE = (
    *(
        "text/html",
        "application/xml",
        "application/problem+json;q=0",
        "application/problem+xml",
        "image/*",
        "text/*",
        "application/jsonp",
        "json",
    ),
    "application/json;q=0, application/problem+json",
    *("application/json;q=0", "*/*;q=0", "application/*;q=0.0", "application/json;q=0, application/msgpack;q=0"),
    *("application/json;q=nan", "application/json;q=inf", "application/json;q=2", "application/json;q=-1"),
    *("application/json;q=", "application/json;q=x", "*", "*/json", "/", ";", "\u00e9", "application/json/x"),
)


@pytest.mark.parametrize(("sent", "wanted"), list(product(ENCODE, ENCODE)))
async def test_a_row_goes_in_and_comes_out_in_every_form(full_resource: ResourceClient, sent: str, wanted: str) -> None:
    client = full_resource.client
    for request in full_resource.writes(*await full_resource.create(count=2)):
        if request.body is not None:
            headers = {"content-type": sent, "accept": wanted}
            response = await client.request(
                request.method, request.url, content=ENCODE[sent](request.body), headers=headers
            )
            assert response.headers["content-type"] == wanted
            assert response.headers["vary"] == "Accept"
            value = content(response)
            rows, bodies = (value, request.body) if isinstance(value, list) else ([value], [request.body])
            assert all(one.items() >= body.items() for one, body in zip(rows, bodies, strict=True)), request
            found = await client.get(full_resource.url(rows[-1]), headers={"accept": wanted})
            assert content(found) == rows[-1]
            version = rows[-1]["version"]
            assert found.headers["etag"] == f'"{version}-{wanted.removeprefix("application/")}"'
            if isinstance(value, dict):
                assert (response.content, response.headers["etag"]) == (found.content, found.headers["etag"])


async def test_both_forms_have_the_same_content(full_resource: ResourceClient) -> None:
    client, rows = full_resource.client, await full_resource.create(count=2)
    for request in full_resource.reads(*rows):
        in_json, in_msgpack = [await client.get(request.url, headers={"accept": form}) for form in ENCODE]
        decoded = msgspec.msgpack.decode(in_msgpack.content)
        assert msgspec.json.encode(decoded) == in_json.content
    url = full_resource.ids_url(rows[1], {"id": 424242})
    deleted = await client.delete(url, headers={"accept": MSGPACK})
    assert msgspec.msgpack.decode(deleted.content) == [rows[1]["id"]]
    assert await full_resource.everything() == rows[:1]


async def test_a_timestamp_is_an_extension_in_messagepack_and_a_string_in_json(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    response = await client.get(f"/items/{item['id']}", headers={"accept": MSGPACK})
    timestamp = msgspec.msgpack.decode(response.content)["created_at"]
    assert isinstance(timestamp, datetime)
    assert timestamp == datetime.fromisoformat(item["created_at"])
    assert timestamp.tzinfo == UTC


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_form_is_the_one_that_is_accepted_most(client: httpx.AsyncClient) -> None:
    await create_item(client)
    for accept, form in ACCEPTED.items():
        for url in ("/items/1", "/items", "/livez"):
            response = await client.get(url, headers={"accept": accept})
            assert (response.status_code, response.headers["content-type"]) == (200, form), accept


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_without_a_wish_the_form_is_json(client: httpx.AsyncClient) -> None:
    del client.headers["accept"]
    response = await client.get("/items")
    assert "accept" not in response.request.headers
    assert response.headers["content-type"] == JSON


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_wish_may_come_in_several_headers(client: httpx.AsyncClient) -> None:
    del client.headers["accept"]
    wishes = [("accept", "text/html"), ("accept", "application/json;q=0.1"), ("accept", "application/msgpack")]
    assert (await client.get("/items", headers=wishes)).headers["content-type"] == MSGPACK


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_has_no_acceptable_response_is_not_done(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/items/1", None),
        ("POST", "/items", LAMP),
        ("PATCH", "/items", [{"id": 1, "price": 2}]),
        ("PUT", "/items/1", LAMP),
        ("DELETE", "/items?ids=1", None),
        ("GET", "/openapi.json", None),
    ]
    for accept in UNACCEPTABLE:
        for method, url, body in calls:
            response = await client.request(method, url, json=body, headers=[(b"accept", accept.encode("latin-1"))])
            assert code(response) == (406, "not-acceptable"), (accept, method, url)
            assert all(form in response.json()["detail"] for form in ENCODE)
    assert await everything(client) == [item]


@pytest.mark.parametrize("accept", ["application/problem+json", "text/html", "application/json;q=0", "a," * 600])
async def test_a_success_without_content_is_acceptable_to_every_client(
    full_resource: ResourceClient, accept: str
) -> None:
    for key in ({}, {"idempotency-key": "k-1"}):
        for row in await full_resource.create(count=2):
            response = await full_resource.send(Request("DELETE", full_resource.url(row)), accept=accept, **key)
            assert (response.status_code, response.content) == (204, b"")
    assert await full_resource.everything() == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_problem_is_json_whatever_is_accepted(client: httpx.AsyncClient) -> None:
    for accept in (MSGPACK, "*/*", "text/html", PROBLEM):
        for method, url in (("GET", "/items/1"), ("GET", "/items?x=1"), ("POST", "/items"), ("GET", "/"), ("PUT", "/")):
            response = await client.request(method, url, headers={"accept": accept})
            assert code(response)[0] in {400, 404, 406, 415}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_body_in_no_known_form_is_refused_and_the_known_ones_are_listed(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    body = msgspec.json.encode(LAMP)
    unknown = ["text/plain", "application/x-www-form-urlencoded", "text/json", "application/json-patch+json", "json"]
    charsets = ["application/json; charset=latin-1", "application/json;charset=utf-16", 'application/json;charset=""']
    several = ["application/json, application/json", "application/*", "*/*", "application/json/x", "application/jsonx"]
    for content_type in [None, "", ";", *unknown, *charsets, *several, "\u00e9"]:
        headers = [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
        for method, url in (("POST", "/items"), ("PATCH", "/items"), ("PUT", "/items/1"), ("PATCH", "/items/1")):
            response = await client.request(method, url, content=body, headers=headers)
            assert code(response) == (415, "unsupported-media-type"), content_type
            accepted = [JSON, MSGPACK, *([MERGE_PATCH] if (method, url) == ("PATCH", "/items/1") else [])]
            assert response.headers["accept"] == ", ".join(accepted)
            assert response.headers.get("accept-patch") == (", ".join(accepted) if method == "PATCH" else None)
    assert await everything(client) == [item]


async def test_a_merge_patch_may_be_called_by_its_name(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    url = full_resource.url(row)
    for version, content_type in enumerate(
        (MERGE_PATCH, f"{MERGE_PATCH}; charset=utf-8", MERGE_PATCH.upper()), start=2
    ):
        change = Request("PATCH", url, full_resource.change())
        response = await full_resource.send(change, **{"content-type": content_type})
        assert (response.status_code, response.json()["version"]) == (200, version), response.content
        assert response.json().items() >= change.body.items()
        assert response.headers["content-type"] == JSON
    left = await full_resource.everything()
    batch = Request("PATCH", full_resource.path, [full_resource.change(id=row["id"])])
    for request in (batch, Request("PUT", url, full_resource.new()), Request("POST", full_resource.path, row)):
        response = await full_resource.send(request, **{"content-type": MERGE_PATCH})
        assert code(response) == (415, "unsupported-media-type"), request
    assert await full_resource.everything() == left


async def test_the_response_to_options_names_the_media_types_of_a_patch(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    types = {full_resource.url(row): f"{JSON}, {MSGPACK}, {MERGE_PATCH}", full_resource.path: f"{JSON}, {MSGPACK}"}
    for url, expected in types.items():
        assert (await full_resource.client.options(url)).headers["accept-patch"] == expected


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_known_form_may_have_parameters(client: httpx.AsyncClient) -> None:
    for parameters in (
        "; charset=utf-8",
        ";charset=UTF-8",
        ' ; charset="utf-8"',
        ";",
        "; boundary=x",
        "; charset=utf8",
    ):
        for form, write in ENCODE.items():
            headers = {"content-type": f" {form.upper()}{parameters}"}
            response = await client.post("/items", content=write(LAMP), headers=headers)
            assert response.status_code == 201, headers


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_body_in_another_form_than_its_header_names_is_refused(client: httpx.AsyncClient) -> None:
    body = msgspec.msgpack.encode(LAMP)
    assert code(await client.post("/items", content=body, headers={"content-type": JSON})) == (400, "malformed-body")
    body = msgspec.json.encode(LAMP)  # its first byte is an integer there
    assert code(await client.post("/items", content=body, headers={"content-type": MSGPACK})) == (422, "invalid-body")
    assert await everything(client) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_what_has_no_body_does_not_mind_what_it_is_sent_with(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for method, status in (("GET", 200), ("HEAD", 200), ("DELETE", 204)):
        headers = {"content-type": "text/plain"}
        response = await client.request(method, f"/items/{item['id']}", content=b"{", headers=headers)
        assert response.status_code == status
