"""Idempotency keys: a write that is repeated happens once, and is answered as it was the first time."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import httpx
import msgspec
import pytest
from sqlalchemy import insert

from db.engines.engine import open_database
from db.transactions.idempotency import idempotency_records
from db.transactions.retention import STEP_ROWS, ExpiredRowsCleaner
from service.settings import Settings
from tests.support.answers import JSON, MSGPACK, added, added_set, code, everything, execute, problem, read, serving
from tests.support.resources import Request, ResourceClient

LAMP = {"name": "lamp", "price": 9.5}


def keyed(key: str = "k-1", **headers: str) -> dict[str, str]:
    return {"idempotency-key": key, **headers}


def told(response: httpx.Response) -> tuple[int, Mapping[str, str], bytes]:
    """Return what an answer says, whichever request it is for."""
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    body = response.content
    if response.status_code >= 400:
        body = msgspec.json.encode({**problem(response), "request_id": ""})
    return response.status_code, headers, body


async def repeated(client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """Ask twice under one key, and give the first answer, once the second was found to be the same."""
    request["headers"] = keyed(**request.get("headers", {}))
    first = await client.request(method, url, **request)
    again = await client.request(method, url, **request)
    assert "idempotency-replayed" not in first.headers
    assert again.headers.pop("idempotency-replayed") == "true"
    assert told(again) == told(first)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    return first


async def test_a_repeated_creation_makes_one_item(client: httpx.AsyncClient) -> None:
    first = await repeated(client, "POST", "/items", json=LAMP)
    assert first.status_code == 201
    assert first.headers["location"] == f"/items/{first.json()['id']}"
    assert await everything(client) == [first.json()]


async def test_a_repeated_set_is_made_once(client: httpx.AsyncClient) -> None:
    first = await repeated(client, "POST", "/items", json=[LAMP, {**LAMP, "name": "chair"}])
    assert await everything(client) == first.json()


async def test_a_repeated_replacement_counts_once(client: httpx.AsyncClient) -> None:
    lamp = await added(client)
    first = await repeated(client, "PUT", f"/items/{lamp['id']}", json={"name": "chair", "price": 1})
    assert (first.json()["version"], await read(client, lamp["id"])) == (2, first.json())


async def test_a_repeated_change_is_answered_as_it_was_whatever_happened_since(full_resource: ResourceClient) -> None:
    client, [row] = full_resource.client, await full_resource.added()
    here = full_resource.url(row)
    change: dict[str, Any] = {"json": full_resource.change(), "headers": keyed("other")}
    first = await client.patch(here, **change)
    assert (await client.patch(here, json=full_resource.change())).json()["version"] == 3
    assert (await client.patch(here, **change)).content == first.content
    assert (await client.delete(here)).status_code == 204
    assert (await client.patch(here, **change)).content == first.content


async def test_a_repeated_removal_is_no_fault(client: httpx.AsyncClient) -> None:
    lamp = await added(client)
    first = await repeated(client, "DELETE", f"/items/{lamp['id']}")
    assert first.status_code == 204


async def test_a_repeated_change_of_a_set_counts_once(client: httpx.AsyncClient) -> None:
    items = await added_set(client, [LAMP, LAMP])
    first = await repeated(client, "PATCH", "/items", json=[{"id": item["id"], "price": 7} for item in items])
    assert [item["version"] for item in first.json()] == [2, 2]
    assert await everything(client) == first.json()


async def test_a_repeated_removal_of_a_set_names_the_same_ids(client: httpx.AsyncClient) -> None:
    ids = [item["id"] for item in await added_set(client, [LAMP, LAMP])]
    first = await repeated(client, "DELETE", f"/items?ids={ids[1]},999,{ids[0]}")
    assert first.json() == [ids[1], ids[0]]


async def test_a_refusal_is_kept_as_well(client: httpx.AsyncClient) -> None:
    lamp = await added(client)
    assert (await repeated(client, "PATCH", "/items/999", json={"price": 1})).status_code == 404
    stale = await repeated(
        client, "PUT", f"/items/{lamp['id']}", json=LAMP, headers={"key": "k-2", "if-match": '"9-json"'}
    )
    assert code(stale) == (412, "stale")
    some = [{"id": lamp["id"], "price": 1}, {"id": 999, "price": 1}]
    assert (await repeated(client, "PATCH", "/items", json=some)).status_code == 404
    assert await everything(client) == [lamp]


async def test_of_several_tags_that_are_expected_the_repeat_needs_none(client: httpx.AsyncClient) -> None:
    lamp = await added(client)
    tags = {"if-match": '"1-json", "4-json"'}
    first = await repeated(client, "PATCH", f"/items/{lamp['id']}", json={"price": 1}, headers=tags)
    assert first.json()["version"] == 2


@pytest.mark.parametrize(("accept", "name"), [(JSON, "json"), (MSGPACK, "msgpack")])
async def test_a_repeat_is_answered_in_the_media_type_of_the_first(
    client: httpx.AsyncClient, accept: str, name: str
) -> None:
    first = await repeated(client, "POST", "/items", json=LAMP, headers={"accept": accept})
    assert (first.headers["content-type"], first.headers["etag"]) == (accept, f'"1-{name}"')


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("another body", {"json": {**LAMP, "price": 9}}),
    ("a set", {"json": [LAMP]}),
    ("another media type", {"json": LAMP, "headers": {"accept": MSGPACK}}),
]


@pytest.mark.parametrize(("other"), [other for _, other in OTHERS], ids=[name for name, _ in OTHERS])
async def test_a_key_is_for_one_request(client: httpx.AsyncClient, other: dict[str, Any]) -> None:
    await client.post("/items", json=LAMP, headers=keyed())
    other = {**other, "headers": keyed(**other.get("headers", {}))}
    assert code(await client.post("/items", **other)) == (422, "idempotency-key-reused")
    assert len(await everything(client)) == 1


async def test_a_key_is_for_one_condition_and_for_one_query(client: httpx.AsyncClient) -> None:
    first, second = await added_set(client, [LAMP, LAMP])
    here = f"/items/{first['id']}"
    await client.patch(here, json={"price": 1}, headers=keyed(**{"if-match": '"1-json"'}))
    assert (await client.patch(here, json={"price": 1}, headers=keyed(**{"if-match": '"2-json"'}))).status_code == 422
    await client.delete(f"/items?ids={second['id']}", headers=keyed())
    assert (await client.delete(f"/items?ids={first['id']}", headers=keyed())).status_code == 422


async def test_a_key_holds_for_one_method_and_path_only(full_resource: ResourceClient) -> None:
    for row in await full_resource.added(count=2):
        for change in full_resource.changes(row):
            response = await full_resource.send(change, **keyed())
            assert "idempotency-replayed" not in response.headers
    assert [row["version"] for row in await full_resource.everything()] == [3, 3]


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é", "a, b", "\t"])
async def test_a_malformed_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post("/items", json=LAMP, headers=[(b"idempotency-key", key.encode())])
    assert code(response) == (400, "invalid-header")
    twice = [("idempotency-key", "a"), ("idempotency-key", "a")]
    assert code(await client.post("/items", json=LAMP, headers=twice)) == (400, "invalid-header")
    assert await everything(client) == []


async def test_a_reader_needs_no_key(client: httpx.AsyncClient) -> None:
    lamp = await added(client)
    for _ in range(2):
        response = await client.get(f"/items/{lamp['id']}", headers=keyed(""))
        assert (response.status_code, "idempotency-replayed" in response.headers) == (200, False)


async def test_what_was_not_understood_is_not_kept(resource: ResourceClient) -> None:
    for body, status in (({}, 422), (resource.new(), 201)):
        assert (await resource.send(Request("POST", resource.path, body), **keyed())).status_code == status


@pytest.mark.parametrize("settings", [{}, {"coalesce": False}, {"batch_size_max": 3}], indirect=True)
async def test_many_at_once_each_happen_once(resource: ResourceClient) -> None:
    requests = {f"k-{number}": Request("POST", resource.path, resource.new()) for number in range(40)}

    async def create() -> list[httpx.Response]:
        return await asyncio.gather(*(resource.send(one, **keyed(key)) for key, one in requests.items()))

    first, again = await create(), await create()
    assert [answer.status_code for answer in first] == [201] * 40
    assert [answer.content for answer in again] == [answer.content for answer in first]
    assert all(answer.headers["idempotency-replayed"] == "true" for answer in again)
    assert all(answer.json().items() >= one.body.items() for answer, one in zip(first, requests.values(), strict=True))
    assert len(await resource.everything()) == 40


HELD = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "LOCK TABLE {}"}


@asynccontextmanager
async def held(database_url: str, backend: str, tables: str = "items") -> AsyncIterator[None]:
    """Keep every write waiting, on PostgreSQL whatever is done to the tables."""
    database = open_database(database_url)
    async with database.connect() as connection:
        driver = getattr(connection, "_driver")  # noqa: B009 - every connection has one, and shows none
        if backend == "postgresql":
            await driver.execute("BEGIN")
        await driver.execute(HELD[backend].format(tables))
        yield
        await driver.execute("ROLLBACK")
    await database.close()


@pytest.mark.parametrize("shape", ["one", "batch"])
async def test_while_the_first_is_not_finished_a_repeat_is_told_to_come_again(
    resource: ResourceClient, database_url: str, backend: str, shape: str
) -> None:
    request = Request("POST", resource.path, resource.new() if shape == "one" else [resource.new()])

    async def ask() -> httpx.Response:
        return await resource.send(request, **keyed())

    async with held(database_url, backend, resource.collection.table.name):
        answered, pending = await asyncio.wait(map(asyncio.create_task, [ask(), ask()]), return_when=FIRST_COMPLETED)
        [told_at_once], [first] = answered, pending
        for repeat in (await told_at_once, await ask()):
            assert code(repeat) == (409, "idempotency-key-in-use")
            assert problem(repeat)["retryable"]
    assert (await first).status_code == 201
    again = await ask()
    assert (again.content, again.headers["idempotency-replayed"]) == ((await first).content, "true")


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_another_instance_is_told_as_well(resource: ResourceClient, settings: Settings, backend: str) -> None:
    table, request = resource.collection.table.name, Request("POST", resource.path, resource.new())
    async with serving(settings) as other, held(settings.database_url, backend, table):
        first = asyncio.create_task(resource.send(request, **keyed()))
        while await execute(settings.database_url, WAITING) == [(0,)]:
            assert not first.done()
        repeat = await other.post(resource.path, json=request.body, headers=keyed())
        assert code(repeat) == (409, "idempotency-key-in-use")
    assert (await first).status_code == 201


async def test_a_failure_is_not_kept(resource: ResourceClient, database_url: str) -> None:
    table = resource.collection.table.name
    bodies = {"k-1": resource.new(), "k-2": [resource.new()]}
    for rename in (f"{table} RENAME TO elsewhere", f"elsewhere RENAME TO {table}"):
        await execute(database_url, f"ALTER TABLE {rename}")
        for key, body in bodies.items():
            response = await resource.send(Request("POST", resource.path, body), **keyed(key))
            assert response.status_code == 201 if rename.endswith(table) else response.status_code >= 500


async def test_a_key_is_there_with_its_row_or_not_at_all(resource: ResourceClient, database_url: str) -> None:
    """Where the key cannot be kept, nothing is written."""
    await execute(database_url, "ALTER TABLE idempotency_keys RENAME TO elsewhere")
    response = await resource.send(Request("POST", resource.path, resource.new()), **keyed())
    assert (response.status_code >= 500, await resource.everything()) == (True, [])


async def test_keys_are_swept_after_their_lifetime_and_not_before(client: httpx.AsyncClient, database_url: str) -> None:
    old = datetime.now(UTC) - timedelta(seconds=90)
    rows = [{"scope": str(n), "fingerprint": "", "response": b"", "created_at": old} for n in range(2 * STEP_ROWS + 1)]
    database = open_database(database_url)
    async with database.engine.begin() as connection:
        await connection.execute(insert(idempotency_records), rows)
    await client.post("/items", json=LAMP, headers=keyed())
    try:
        cleaner = ExpiredRowsCleaner(database, key_lifetime_s=120)
        assert await cleaner.clean() == 0
        cleaner = ExpiredRowsCleaner(database, key_lifetime_s=60)
        assert await cleaner.clean() == 2 * STEP_ROWS + 1
    finally:
        await database.close()
    assert (await client.post("/items", json=LAMP, headers=keyed())).headers["idempotency-replayed"] == "true"


class Ahead(datetime):
    """The clock of a machine that is twenty minutes ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=20)


async def test_how_old_a_key_is_does_not_depend_on_the_clock_of_the_service(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.post("/items", json=LAMP, headers=keyed())
    monkeypatch.setattr("db.transactions.retention.datetime", Ahead, raising=False)
    database = open_database(database_url)
    assert await ExpiredRowsCleaner(database, key_lifetime_s=600).clean() == 0
    await database.close()
    again = await client.post("/items", json=LAMP, headers=keyed())
    assert (again.status_code, again.json()) == (201, first.json())
    assert await everything(client) == [first.json()]
