"""Bodies of very many values: no more of them is decoded than a legal body has, and no legal body is refused."""

import tracemalloc

import httpx
import msgspec
import pytest

from service.http.media_types import JSON as JSON_TYPE
from service.http.media_types import MEDIA_TYPES, MediaType
from service.http.operation import Operation
from service.http.problems import ProblemError
from service.routes import ROUTES
from tests.support.resources import ResourceClient
from tests.support.responses import ENCODE, JSON, MSGPACK, code, pointers, problem

BYTES = 4_000_000
LAMP = {"name": "a", "price": 1}


def filled(start: bytes, unit: bytes, end: bytes) -> bytes:
    """Return a body of about as many bytes as are read."""
    return start + unit * ((BYTES - len(start) - len(end)) // len(unit)) + end


UNKNOWN = {**LAMP, **{f"k{number}": 1 for number in range(250_000)}}
BODIES = {
    "unknown fields": msgspec.json.encode(UNKNOWN),
    "items": filled(b"[", b'{"name":"a","price":1},', b'{"name":"a","price":1}]'),
    "items, the last one wrong": filled(b"[", b'{"name":"a","price":1},', b'{"name":"a","price":"x"}]'),
    "arrays": filled(b"[", b"[],", b"[]]"),
    "objects": filled(b"[", b"{},", b"{}]"),
    "arrays in what is unknown": filled(b'{"name":1,"z":[', b"[],", b"[]]}"),
    "texts in what is unknown": filled(b'{"name":1,"z":[', b'"",', b'""]}'),
    "a field that is repeated": filled(b'{"price":1', b',"name":"a"', b"}"),
    "escaped quotes": filled(b'{"name":1,"z":["', b'\\"', b'",[') + b"[]," * 100_000 + b"1]]}",
}
PACKED = {
    "unknown fields": msgspec.msgpack.encode(UNKNOWN),
    "arrays": b"\xdd" + BYTES.to_bytes(4, "big") + b"\x90" * BYTES,
    "arrays in what is unknown": b"\x81\xa1z\xdd" + BYTES.to_bytes(4, "big") + b"\x90" * BYTES,
    "a field that is repeated": b"\xdf" + (500_000).to_bytes(4, "big") + b"\xa4name\xa1a" * 500_000,
    "a field that is repeated in an item": b"\x91\xdf" + (500_000).to_bytes(4, "big") + b"\xa4name\xa1a" * 500_000,
}
WRITES = [
    pytest.param(operation, id=f"{method} {route.path}")
    for route in ROUTES
    for method, operation in getattr(route.endpoint, "operations", {}).items()
    if operation.body is not None
]


def decode(operation: Operation, media_type: MediaType, body: bytes) -> list[str]:
    """Return the pointers of the errors of a body, once decoding it has not taken more memory than it may."""
    tracemalloc.start()
    try:
        operation.body_decoder.decode(media_type, body)
    except ProblemError as error:
        return [each.pointer for each in error.errors]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * len(body) + 1_000_000, peak
    return []


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("name", BODIES)
def test_json_of_very_many_values_is_refused_before_it_is_decoded(operation: Operation, name: str) -> None:
    assert len(decode(operation, JSON_TYPE, BODIES[name])) == 1


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("name", PACKED)
def test_messagepack_of_very_many_values_is_refused_before_it_is_decoded(operation: Operation, name: str) -> None:
    assert len(decode(operation, MEDIA_TYPES[1], PACKED[name])) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("media_type", "bodies"), [(JSON, BODIES), (MSGPACK, PACKED)], ids=["json", "msgpack"])
async def test_the_problem_says_what_is_wrong_first_or_that_there_are_too_many(
    client: httpx.AsyncClient, media_type: str, bodies: dict[str, bytes]
) -> None:
    headers = {"content-type": media_type}
    response = await client.post("/items", content=bodies["unknown fields"], headers=headers)
    assert (code(response), pointers(response)) == ((422, "invalid-body"), ["/k0"])
    response = await client.post("/items", content=bodies["a field that is repeated"], headers=headers)
    assert code(response) == (422, "invalid-body")
    detail = "Too many values: an array has at most 1000 members, an object at most 4 fields"
    assert problem(response)["errors"] == [{"pointer": "", "detail": detail}]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("character", [",", "[", "{", '"', "\\", '"\\', '",\\[', "\U0001f600"])
@pytest.mark.parametrize("media_type", [JSON, MSGPACK])
async def test_no_text_makes_a_batch_too_large(client: httpx.AsyncClient, media_type: str, character: str) -> None:
    name = (character * 255)[:255]
    body = ENCODE[media_type]([{"name": name, "price": 1.5, "in_stock": True, "owner_id": None}] * 1000)
    response = await client.post("/items", content=body, headers={"content-type": media_type})
    assert response.status_code == 201, response.text
    changes = [{**LAMP, "id": row["id"], "name": name, "version": 1} for row in response.json()]
    changed = await client.patch("/items", content=ENCODE[media_type](changes), headers={"content-type": media_type})
    assert {row["name"] for row in changed.json()} == {name}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("wrong", [1, 1000])
async def test_the_errors_of_a_batch_are_found_wherever_they_are(
    client: httpx.AsyncClient, resource: ResourceClient, wrong: int
) -> None:
    rows = [resource.new() | ({"zzz": 1} if number >= 1000 - wrong else {}) for number in range(1000)]
    response = await client.post(resource.path, json=rows)
    found = [error["pointer"] for error in problem(response)["errors"]]
    assert found == [f"/{number}/zzz" for number in range(1000 - wrong, 1000)][:100]
