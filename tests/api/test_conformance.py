"""Every resource of ROUTES fulfils the same promises for its rows and batches. No test names a resource, or a field."""

import pytest

from tests.support.refusals import UNKNOWN_ID, refusals
from tests.support.resources import COLLECTIONS, Body, Request, ResourceClient, content
from tests.support.responses import ENCODE, code, pointers

pytestmark = pytest.mark.usefixtures("documented")


def shows(row: Body, body: Body) -> bool:
    """Return whether a row has the values of a body, as far as it has its fields."""
    return all(row[name] == value for name, value in body.items() if name in row)


def by_id(rows: list[Body]) -> list[Body]:
    """Return rows in the order of a list."""
    return sorted(rows, key=lambda row: int(row["id"]))


@pytest.mark.parametrize("media_type", ENCODE)
async def test_a_row_is_created_read_listed_replaced_updated_and_deleted(
    resource: ResourceClient, media_type: str
) -> None:
    body, other, change = resource.new(), resource.new(), resource.change()
    created = await resource.send(Request("POST", resource.path, body), media_type)
    row = content(created)
    here = resource.url(row)
    assert (created.status_code, created.headers["location"]) == (201, here.lstrip("/"))
    assert set(row) == set(resource.collection.shown)
    assert (shows(row, body), row["version"], row["updated_at"]) == (True, 1, row["created_at"])
    for url, expected in ((here, row), (resource.path, [row]), (resource.ids_url(row), [row])):
        assert content(await resource.send(Request("GET", url), media_type)) == expected
    requests = [Request("PUT", here, other), Request("PATCH", here, change), Request("PATCH", here, {})]
    for request in filter(resource.operation, requests):
        changed = content(await resource.send(request, media_type))
        assert (shows(changed, request.body), changed["version"]) == (True, row["version"] + bool(request.body))
        assert content(await resource.send(Request("GET", here), media_type)) == changed
        assert changed["created_at"] == row["created_at"]
        row = changed
    for request in filter(resource.operation, [Request("DELETE", here)]):
        deleted = await resource.send(request, media_type)
        assert (deleted.status_code, await resource.everything()) == (204, [])


async def test_a_deleted_row_is_gone_and_a_new_one_may_have_its_values_but_not_its_id(resource: ResourceClient) -> None:
    body = resource.new()
    [other], [row] = await resource.create(), await resource.create(body)
    for request in filter(resource.operation, [Request("DELETE", resource.url(row))]):
        deleted = await resource.send(request)
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert not {"content-type", "content-length", "etag"} & deleted.headers.keys()
        for again in filter(resource.is_of_one, [*resource.reads(row, other), *resource.writes(row, other)]):
            assert code(await resource.send(again)) == (404, f"{resource.noun}-not-found"), again
        [new] = await resource.create(body)
        assert new["id"] > row["id"]
        assert await resource.everything() == [other, new]


async def test_head_has_the_headers_of_get(resource: ResourceClient) -> None:
    for request in resource.reads(*await resource.create(count=2)):
        got, headed = [await resource.send(request._replace(method=method)) for method in ("GET", "HEAD")]
        assert (got.status_code, headed.status_code, headed.content) == (200, 200, b"")
        assert {**got.headers, "x-request-id": ""} == {**headed.headers, "x-request-id": ""}


@pytest.mark.parametrize("media_type", ENCODE)
async def test_a_batch_is_written_in_its_order(resource: ResourceClient, media_type: str) -> None:
    bodies = [resource.new() for _ in range(5)][::-1]
    created = await resource.send(Request("POST", resource.path, bodies), media_type)
    rows = content(created)
    assert (created.status_code, [shows(*pair) for pair in zip(rows, bodies, strict=True)]) == (201, [True] * 5)
    assert await resource.everything() == by_id(rows)
    patches = [resource.change(id=row["id"], version=1) for row in (rows[3], rows[0], rows[4])]
    for request in filter(resource.operation, [Request("PATCH", resource.path, patches)]):
        before, changed = rows, content(await resource.send(request, media_type))
        assert changed == [{**row, **patch, "version": 2} for row, patch in zip(changed, patches, strict=True)]
        rows = [next((new for new in changed if new["id"] == row["id"]), row) for row in before]
        assert [row["created_at"] for row in rows] == [row["created_at"] for row in before]
        assert await resource.everything() == by_id(rows)
    deletion = Request("DELETE", resource.ids_url(rows[2], {"id": UNKNOWN_ID}, rows[0]))
    for request in filter(resource.operation, [deletion]):
        assert content(await resource.send(request, media_type)) == [rows[2]["id"], rows[0]["id"]]
        assert await resource.everything() == by_id([rows[1], *rows[3:]])


async def test_a_batch_with_one_wrong_member_changes_nothing_and_points_to_it(resource: ResourceClient) -> None:
    rows = await resource.create(count=2)
    for name in resource.new():
        wrong = {name: resource.collection.created.wrong(name)}
        patches = [resource.change(id=rows[0]["id"]), {"id": rows[1]["id"], **wrong}]
        requests = [Request("POST", resource.path, [resource.new(), resource.new(**wrong)])]
        requests += filter(resource.operation, [Request("PATCH", resource.path, patches)])
        for request in requests:
            response = await resource.send(request)
            assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/1/{name}"])
    for request in filter(resource.operation, [Request("PATCH", resource.path, [{"id": rows[0]["id"]}] * 2)]):
        twice = await resource.send(request)
        assert (code(twice), pointers(twice)) == ((422, "invalid-body"), ["/1/id"])
    assert await resource.everything() == rows


async def test_a_field_that_is_unknown_or_not_for_clients_is_refused(resource: ResourceClient) -> None:
    rows = await resource.create(count=2)
    names = {"colour", *resource.collection.shown} - set(resource.collection.created.kinds)
    for request in resource.writes(*rows):
        for name in names if isinstance(request.body, dict) else ():
            response = await resource.send(request._replace(body={**request.body, name: rows[0].get(name)}))
            assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/{name}"])
    assert await resource.everything() == rows


async def test_missing_fields_are_named_and_all_others_have_their_defaults(resource: ResourceClient) -> None:
    created, rows = resource.collection.created, await resource.create(count=2)
    optional = [name for name in created.kinds if name in resource.collection.shown and name not in created.required]
    defaults = {name: created.schemas[name].get("default") for name in optional}
    for url in (resource.path, *map(resource.url, rows)):
        body = {name: value for name, value in resource.new().items() if name in created.required}
        for request in filter(resource.operation, [Request("POST" if url == resource.path else "PUT", url, body)]):
            response = await resource.send(request._replace(body={}))
            expected = [f"/{name}" for name in created.required]
            assert (code(response), pointers(response)) == ((422, "invalid-body"), expected)
            row = content(await resource.send(request))
            assert row == {**row, **body, **defaults, "version": 1 if request.method == "POST" else 2}


async def test_every_field_is_changed_alone(resource: ResourceClient) -> None:
    [row] = await resource.create()
    values = resource.change()
    for name in resource.collection.patched.kinds.keys() - {"id", "version"}:
        value = values[name] if name in values else resource.collection.patched.value(name, 1)
        expected = {**row, **({name: value} if name in row else {}), "version": row["version"] + 1}
        for request in filter(resource.operation, [Request("PATCH", resource.url(row), {name: value})]):
            changed = content(await resource.send(request))
            assert changed == {**expected, "updated_at": changed["updated_at"]}, name
            row = changed
    for request in filter(resource.operation, [Request("PATCH", resource.url(row), {})]):
        unchanged = await resource.send(request)
        assert (content(unchanged), unchanged.headers["etag"]) == (row, f'"{row["version"]}-json"')
    assert await resource.everything() == [row]


async def test_null_clears_every_field_that_may_be_null_and_no_other(resource: ResourceClient) -> None:
    filled = {name: ids[0] for name, ids in resource.references.items()}
    for name in resource.collection.created.kinds:
        rows = await resource.create(resource.new(**filled), resource.new(**filled))
        null, before = {name: None}, await resource.everything()
        requests = [
            Request("POST", resource.path, resource.new(**null)),
            Request("PUT", resource.url(rows[0]), resource.new(**null)),
            Request("PATCH", resource.url(rows[0]), null),
            Request("PATCH", resource.path, [{"id": rows[1]["id"], **null}]),
        ]
        for request in filter(resource.operation, requests):
            response = await resource.send(request)
            if resource.collection.created.accepts(name, None):
                [row] = content(response) if isinstance(request.body, list) else [content(response)]
                assert row.get(name) is None
                assert content(await resource.send(Request("GET", resource.ids_url(row)))) == [row]
            else:
                pointer = f"/0/{name}" if isinstance(request.body, list) else f"/{name}"
                assert (code(response), pointers(response)) == ((422, "invalid-body"), [pointer])
                assert await resource.everything() == before


@pytest.mark.parametrize(
    "collection", [one for one in COLLECTIONS if one.unique and "PATCH" in one.many], indirect=True, ids=str
)
async def test_unique_values_are_swapped_in_one_batch(resource: ResourceClient) -> None:
    rows = await resource.create(count=3)
    for name in resource.collection.unique:
        values = [row[name] for row in (rows[1], rows[2], rows[0])]
        patches = [{"id": row["id"], name: value} for row, value in zip(rows, values, strict=True)]
        response = await resource.send(Request("PATCH", resource.path, patches))
        assert response.status_code == 200, response.content
        rows = await resource.everything()
        assert [row[name] for row in rows] == values


async def test_every_refusal_has_its_problem_and_changes_nothing(resource: ResourceClient) -> None:
    async for request, *expected in refusals(resource):
        before = await resource.everything()
        response = await resource.send(request)
        assert [*code(response), tuple(pointers(response))] == expected, request
        assert await resource.everything() == before
