"""Bodies that have the wrong content, in both forms: refused with a pointer to each error, and nothing changes."""

from typing import Any

import httpx
import pytest

from tests.support.responses import ENCODE, code, create_batch, everything, pointers

GOOD: dict[str, Any] = {"name": "lamp", "price": 9.5}
NUL = "\x00"

# Fields that are put into a good item, and the pointers to what is wrong then.
BAD_FIELDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a name that is null": ({"name": None}, ["/name"]),
    "a name that is a number": ({"name": 1}, ["/name"]),
    "a name that is a fraction": ({"name": 1.5}, ["/name"]),
    "a name that is true": ({"name": True}, ["/name"]),
    "a name that is a list": ({"name": ["lamp"]}, ["/name"]),
    "a name that is an object": ({"name": {"name": "lamp"}}, ["/name"]),
    "an empty name": ({"name": ""}, ["/name"]),
    "a name of 256 characters": ({"name": "x" * 256}, ["/name"]),
    "a name of 256 characters of 4 bytes": ({"name": "\U0001f4a1" * 256}, ["/name"]),
    "a name of 100,000 characters": ({"name": "x" * 100_000}, ["/name"]),
    "NUL": ({"name": NUL}, ["/name"]),
    "NUL first": ({"name": f"{NUL}lamp"}, ["/name"]),
    "NUL inside": ({"name": f"la{NUL}mp"}, ["/name"]),
    "NUL last": ({"name": f"lamp{NUL}"}, ["/name"]),
    "NUL after a line": ({"name": f"lamp\n{NUL}"}, ["/name"]),
    "NUL before a line": ({"name": f"lamp{NUL}\n"}, ["/name"]),
    "a price that is null": ({"price": None}, ["/price"]),
    "a price that is a string": ({"price": "9.5"}, ["/price"]),
    "a price that is an empty string": ({"price": ""}, ["/price"]),
    "a price that is true": ({"price": True}, ["/price"]),
    "a price that is a list": ({"price": [9.5]}, ["/price"]),
    "a price that is an object": ({"price": {"amount": 9.5}}, ["/price"]),
    "a price below 0": ({"price": -1}, ["/price"]),
    "a price just below 0": ({"price": -5e-324}, ["/price"]),
    "a price far below 0": ({"price": -1.7976931348623157e308}, ["/price"]),
    "a price of -2**63": ({"price": -(2**63)}, ["/price"]),
    "an in_stock that is null": ({"in_stock": None}, ["/in_stock"]),
    "an in_stock of 0": ({"in_stock": 0}, ["/in_stock"]),
    "an in_stock of 1": ({"in_stock": 1}, ["/in_stock"]),
    "an in_stock of 2**63": ({"in_stock": 2**63}, ["/in_stock"]),
    "an in_stock that is a string": ({"in_stock": "true"}, ["/in_stock"]),
    "an in_stock that is a list": ({"in_stock": []}, ["/in_stock"]),
    "an unknown field": ({"colour": "red"}, ["/colour"]),
    "an unknown field that is null": ({"colour": None}, ["/colour"]),
    "a field in capitals": ({"Name": "lamp"}, ["/Name"]),
    "a field with a blank": ({"price ": 1}, ["/price "]),
    "a field without a name": ({"": 1}, ["/"]),
    "a field with a slash": ({"a/b": 1}, ["/a~1b"]),
    "a field with a tilde": ({"m~n/~1": 1}, ["/m~0n~1~01"]),
    "a field with a dot and brackets": ({"name[0].x": 1}, ["/name[0].x"]),
    "a field with NUL": ({NUL: 1}, [f"/{NUL}"]),
    "a field outside the first plane": ({"\U0001f4a1": 1}, ["/\U0001f4a1"]),
    "a field of 10,000 characters": ({"x" * 10_000: 1}, [f"/{'x' * 255}"]),
    "a field of Python's": ({"__class__": 1, "__struct_fields__": 1}, ["/__class__", "/__struct_fields__"]),
    "an unknown integer of 64 bits": ({"colour": 2**64 - 1}, ["/colour"]),
    "everything": (
        {"name": "", "price": -1, "in_stock": "yes", "colour": 1},
        ["/name", "/price", "/in_stock", "/colour"],
    ),
}
# What only the service writes; in a batch the id names the item.
READ_ONLY = ("id", "version", "created_at", "updated_at")

# Whole bodies for POST /items, and the pointers to what is wrong.
BAD_SHAPES: dict[str, tuple[Any, list[str]]] = {
    "null": (None, [""]),
    "true": (True, [""]),
    "a number": (1, [""]),
    "a fraction": (1.5, [""]),
    "a string": ("lamp", [""]),
    "an empty object": ({}, ["/name", "/price"]),
    "no name": ({"price": 1}, ["/name"]),
    "no price": ({"name": "lamp"}, ["/price"]),
    "nothing but an unknown field": ({"colour": 1}, ["/name", "/price", "/colour"]),
    "an item in an object": ({"item": GOOD}, ["/name", "/price", "/item"]),
    "an empty list": ([], [""]),
    "a list of null": ([None], ["/0"]),
    "a list of a string": (["lamp"], ["/0"]),
    "a list of the fields": (["lamp", 9.5, True], ["/0", "/1", "/2"]),
    "a list in a list": ([[GOOD]], ["/0"]),
    "an item, then null": ([GOOD, None], ["/1"]),
    "an item, then an empty object": ([GOOD, {}], ["/1/name", "/1/price"]),
    "two faulty items": ([{"name": 1, "price": 1}, GOOD, {"name": "x"}], ["/0/name", "/2/price"]),
    "1,001 items": ([GOOD] * 1001, [""]),
    "1,001 times null": ([None] * 1001, [""]),
}


def calls(fields: dict[str, Any], where: list[str]) -> list[tuple[str, str, Any, list[str]]]:
    """List every way to send fields to a service that has the items 1 and 2, each with the pointers to expect."""
    inside = [f"/1{pointer}" for pointer in where]
    return [
        ("POST", "/items", GOOD | fields, where),
        ("PUT", "/items/1", GOOD | fields, where),
        ("PATCH", "/items/1", fields, where),
        ("POST", "/items", [GOOD, GOOD | fields], inside),
        ("PATCH", "/items", [{"id": 1, "price": 1}, {"id": 2} | fields], inside),
    ]


@pytest.mark.parametrize("form", ENCODE)
async def test_an_error_in_a_field_is_pointed_to_however_the_field_is_sent(
    client: httpx.AsyncClient, form: str
) -> None:
    items = await create_batch(client, [GOOD, GOOD])
    assert [item["id"] for item in items] == [1, 2]
    for what, (fields, where) in BAD_FIELDS.items():
        for method, url, body, expected in calls(fields, where):
            content = ENCODE[form](body)
            response = await client.request(method, url, content=content, headers={"content-type": form})
            assert code(response) == (422, "invalid-body"), (what, method, url)
            assert pointers(response) == expected, (what, method, url)
    assert await everything(client) == items


@pytest.mark.parametrize("form", ENCODE)
async def test_a_body_of_another_shape_is_pointed_into(client: httpx.AsyncClient, form: str) -> None:
    for what, (body, expected) in BAD_SHAPES.items():
        response = await client.post("/items", content=ENCODE[form](body), headers={"content-type": form})
        assert code(response) == (422, "invalid-body"), what
        assert pointers(response) == expected, what
    assert await everything(client) == []


async def test_an_item_cannot_be_sent_back_whole(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [GOOD])
    response = await client.put("/items/1", json=items[0])
    assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/{name}" for name in READ_ONLY])
    assert await everything(client) == items


async def test_an_error_in_an_id_or_a_version_of_a_batch_is_pointed_to(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [GOOD])
    for name in ("id", "version"):
        for value in (None, 0, -1, 2**63, 2**64, -(2**63), 10**4000, 1.5, "1", True, [1], {"a": 1}):
            response = await client.patch("/items", json=[{"id": 1, "price": 1} | {name: value}])
            assert code(response) == (422, "invalid-body"), (name, value)
            assert pointers(response) == [f"/0/{name}"], (name, value)
    assert await everything(client) == items


async def test_only_the_first_hundred_errors_are_listed(client: httpx.AsyncClient) -> None:
    response = await client.post("/items", json=[{}] * 1000)
    assert pointers(response) == [f"/{n}/{name}" for n in range(50) for name in ("name", "price")]
    response = await client.post("/items", json={**GOOD, **{f"x{n}": n for n in range(1000)}})
    assert pointers(response) == [f"/x{n}" for n in range(100)]


async def test_of_a_field_that_is_there_twice_the_last_counts(client: httpx.AsyncClient) -> None:
    forms = {
        "application/json": b'{"name": "desk", "price": 1, "name": "lamp", "price": 2}',
        "application/msgpack": b"\x84\xa4name\xa4desk\xa5price\x01\xa4name\xa4lamp\xa5price\x02",
    }
    for form, body in forms.items():
        response = await client.post("/items", content=body, headers={"content-type": form})
        assert response.status_code == 201
        assert (response.json()["name"], response.json()["price"]) == ("lamp", 2)
