"""Batches of rows: in the order they were given, all or nothing."""

import httpx
import pytest

from tests.support.resources import Body, Request, ResourceClient
from tests.support.responses import code, create_batch, pointers

SIZE_MAX = 1000
SIZES = pytest.mark.parametrize("size", [1, SIZE_MAX])


async def created(resource: ResourceClient, size: int) -> list[Body]:
    """Create a batch whose values have another order, and return its rows, which are in its own; their ids need not."""
    made = [resource.new() for _ in range(size)]
    bodies = [made[n * 7 % size] for n in range(size)]
    response = await resource.send(Request("POST", resource.path, bodies))
    rows: list[Body] = response.json()
    assert response.status_code == 201
    assert not {"location", "etag"} & response.headers.keys()
    assert len({row["id"] for row in rows}) == size
    assert all(row.items() >= body.items() for row, body in zip(rows, bodies, strict=True))
    return rows


def by_id(rows: list[Body]) -> list[Body]:
    return sorted(rows, key=lambda row: int(row["id"]))


@SIZES
async def test_a_batch_is_created_and_read_in_the_order_it_is_asked_for(resource: ResourceClient, size: int) -> None:
    rows = await created(resource, size)
    assert await resource.everything() == by_id(rows)
    response = await resource.client.get(resource.ids_url(*reversed(rows)))
    assert response.json() == rows[::-1]
    assert "link" not in response.headers


@SIZES
async def test_a_batch_is_updated_in_the_order_it_was_sent(full_resource: ResourceClient, size: int) -> None:
    rows = await created(full_resource, size)
    patches = [full_resource.change(id=row["id"], version=1) for row in reversed(rows)]
    response = await full_resource.send(Request("PATCH", full_resource.path, patches))
    changed = response.json()
    assert changed == [{**row, **patch, "version": 2} for row, patch in zip(changed, patches, strict=True)]
    assert await full_resource.everything() == by_id(changed)


@SIZES
async def test_a_batch_is_deleted_and_the_ids_of_what_was_there_are_returned(
    full_resource: ResourceClient, size: int
) -> None:
    [first], rows = await full_resource.create(), await created(full_resource, size)
    ids = [row["id"] for row in reversed(rows)]
    assert (await full_resource.client.delete(full_resource.ids_url(*reversed(rows)))).json() == ids
    assert await full_resource.everything() == [first]
    again = [first, *rows][:SIZE_MAX]
    assert (await full_resource.client.delete(full_resource.ids_url(*again))).json() == [first["id"]]
    assert (await full_resource.client.delete(full_resource.ids_url(*again))).json() == []


async def test_equal_items_of_a_batch_are_different_items(client: httpx.AsyncClient) -> None:
    items = await create_batch(client, [{"name": "lamp", "price": 1}] * 5)
    assert len({item["id"] for item in items}) == 5


async def test_a_batch_with_several_bad_members_creates_none_and_points_to_each(resource: ResourceClient) -> None:
    bodies, name = [resource.new() for _ in range(SIZE_MAX)], next(iter(resource.new()))
    bodies[500][name] = bodies[999][name] = resource.collection.created.wrong(name)
    bodies[999]["colour"] = "red"
    response = await resource.send(Request("POST", resource.path, bodies))
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == [f"/500/{name}", f"/999/{name}", "/999/colour"]
    assert await resource.everything() == []


@pytest.mark.parametrize("size", [0, SIZE_MAX + 1])
async def test_a_batch_that_is_empty_or_too_large_is_refused(full_resource: ResourceClient, size: int) -> None:
    rows = await full_resource.create()
    patches = [{"id": number + 1} for number in range(size)]
    for method, bodies in (("POST", [full_resource.new()] * size), ("PATCH", patches)):
        response = await full_resource.send(Request(method, full_resource.path, bodies))
        assert (code(response), pointers(response)) == ((422, "invalid-body"), [""])
    assert await full_resource.everything() == rows


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_ids_that_are_no_batch_are_refused(full_resource: ResourceClient, method: str) -> None:
    rows = await full_resource.create()
    too_many = ",".join(str(n + 1) for n in range(SIZE_MAX + 1))
    wrong = ["", ",", "1,", ",1", "1,,2", "1,1", "0", "-1", "1;2", "1 2", "1,%202", "x", "1.5", "007", "%2B1", "null"]
    for ids in [*wrong, too_many, "9" * 5000, str(2**63), "1," * 999 + "1", "%D9%A1", "[1]", "true", "1%00", "1e400"]:
        response = await full_resource.client.request(method, f"{full_resource.path}?ids={ids}")
        assert (code(response), pointers(response)) == ((400, "invalid-query"), ["/ids"]), ids[:20]
    missing = await full_resource.client.delete(full_resource.path)
    assert (code(missing), pointers(missing)) == ((400, "invalid-query"), ["/ids"])
    assert await full_resource.everything() == rows


async def test_an_empty_patch_in_a_batch_changes_nothing(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=3)
    response = await full_resource.send(Request("PATCH", full_resource.path, [{"id": row["id"]} for row in rows]))
    assert response.json() == rows
    patches = [{"id": rows[2]["id"]}, full_resource.change(id=rows[0]["id"])]
    response = await full_resource.send(Request("PATCH", full_resource.path, patches))
    assert [row["version"] for row in response.json()] == [1, 2]


@pytest.mark.parametrize("version", [{}, {"version": 1}, {"version": 7}])
async def test_a_batch_that_names_unknown_ids_is_a_404_first_and_changes_nothing(
    full_resource: ResourceClient, version: Body
) -> None:
    rows = await full_resource.create(count=2)
    known = [full_resource.change(id=row["id"], **version) for row in rows]
    patches = [known[0], {"id": 424242}, {"id": 434343, "version": 1}, known[1]]
    response = await full_resource.send(Request("PATCH", full_resource.path, patches))
    assert code(response) == (404, f"{full_resource.noun}-not-found")
    assert response.json()["detail"] == f"No {full_resource.noun} has the id 424242, 434343."
    assert await full_resource.everything() == rows


@pytest.mark.parametrize("version", [1, 3, 2**63 - 1])
@pytest.mark.parametrize("is_empty", [True, False])
async def test_a_batch_with_a_stale_version_changes_nothing(
    full_resource: ResourceClient, version: int, is_empty: bool
) -> None:
    rows = await full_resource.create(count=3)
    await full_resource.send(full_resource.changes(rows[1])[0])
    before = await full_resource.everything()
    patches = [full_resource.change(id=row["id"]) for row in rows]
    patches[1] = {**({"id": rows[1]["id"]} if is_empty else patches[1]), "version": version}
    response = await full_resource.send(Request("PATCH", full_resource.path, patches))
    assert code(response) == (412, "stale")
    assert str(rows[1]["id"]) in response.json()["detail"]
    assert await full_resource.everything() == before


async def test_a_batch_that_names_a_row_twice_changes_nothing(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=2)
    ids = [rows[place]["id"] for place in (0, 1, 0, 0, 1)]
    response = await full_resource.send(Request("PATCH", full_resource.path, [{"id": id} for id in ids]))
    assert (code(response), pointers(response)) == ((422, "invalid-body"), ["/2/id", "/3/id", "/4/id"])
    assert await full_resource.everything() == rows


async def test_a_batch_with_bad_patches_changes_nothing_and_points_to_each_field(full_resource: ResourceClient) -> None:
    rows = await full_resource.create(count=3)
    patches = [full_resource.change(id=row["id"]) for row in rows]
    patches[1] |= {"version": 0}
    patches[2] |= {"id": 2**63, "created_at": "2026-01-01T00:00:00Z"}
    response = await full_resource.send(Request("PATCH", full_resource.path, [*patches, {}]))
    assert code(response) == (422, "invalid-body")
    assert pointers(response) == ["/1/version", "/2/id", "/2/created_at", "/3/id"]
    assert await full_resource.everything() == rows


async def test_a_batch_is_not_a_single_patch(full_resource: ResourceClient) -> None:
    [row] = await full_resource.create()
    patch = full_resource.change()
    single = Request("PATCH", full_resource.path, {"id": row["id"], **patch})
    for request in (single, Request("PATCH", full_resource.url(row), [patch])):
        response = await full_resource.send(request)
        assert (code(response), pointers(response)) == ((422, "invalid-body"), [""])
    assert await full_resource.everything() == [row]
