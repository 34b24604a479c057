"""Idempotency keys: a write that is repeated happens once, and its repeat has the first response."""

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
from db.transactions.expired_rows import STEP_ROWS_MAX
from db.transactions.idempotency import idempotency_records
from db.transactions.retention import ExpiredRowsCleaner
from service.settings import Settings
from tests.support.resources import Request, ResourceClient
from tests.support.responses import (
    MSGPACK,
    code,
    create_batch,
    create_item,
    everything,
    execute,
    problem,
    serving,
)

LAMP = {"name": "lamp", "price": 9.5}


def with_key(key: str = "k-1", **headers: str) -> dict[str, str]:
    return {"idempotency-key": key, **headers}


def without_request_id(response: httpx.Response) -> tuple[int, Mapping[str, str], bytes]:
    """Return a response without what names its request."""
    headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
    body = response.content
    if response.status_code >= 400:
        body = msgspec.json.encode({**problem(response), "request_id": ""})
    return response.status_code, headers, body


async def repeated(client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
    """Ask twice under one key, and return the first response, once the second was found to be the same."""
    request["headers"] = with_key(**request.get("headers", {}))
    first = await client.request(method, url, **request)
    again = await client.request(method, url, **request)
    assert "idempotency-replayed" not in first.headers
    assert again.headers.pop("idempotency-replayed") == "true"
    assert without_request_id(again) == without_request_id(first)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    return first


async def test_a_repeated_change_has_the_first_response_whatever_happened_since(full_resource: ResourceClient) -> None:
    client, [row] = full_resource.client, await full_resource.create()
    here = full_resource.url(row)
    change: dict[str, Any] = {"json": full_resource.change(), "headers": with_key("other")}
    first = await client.patch(here, **change)
    assert (await client.patch(here, json=full_resource.change())).json()["version"] == 3
    assert (await client.patch(here, **change)).content == first.content
    assert (await client.delete(here)).status_code == 204
    assert (await client.patch(here, **change)).content == first.content


async def test_a_repeated_deletion_of_a_batch_names_the_same_ids(full_resource: ResourceClient) -> None:
    first, second = await full_resource.create(count=2)
    url = full_resource.ids_url(second, {"id": 999}, first)
    assert (await repeated(full_resource.client, "DELETE", url)).json() == [second["id"], first["id"]]


async def test_a_key_is_not_for_a_batch_or_another_media_type_too(resource: ResourceClient) -> None:
    body = resource.new()
    first = await resource.send(Request("POST", resource.path, body), **with_key())
    for other, headers in (([body], {}), (body, {"accept": MSGPACK})):
        response = await resource.send(Request("POST", resource.path, other), **with_key(**headers))
        assert code(response) == (422, "idempotency-key-reused")
    assert await resource.everything() == [first.json()]


async def test_a_key_is_for_one_condition_and_for_one_query(client: httpx.AsyncClient) -> None:
    first, second = await create_batch(client, [LAMP, LAMP])
    here = f"/items/{first['id']}"
    await client.patch(here, json={"price": 1}, headers=with_key(**{"if-match": '"1-json"'}))
    assert (
        await client.patch(here, json={"price": 1}, headers=with_key(**{"if-match": '"2-json"'}))
    ).status_code == 422
    await client.delete(f"/items?ids={second['id']}", headers=with_key())
    assert (await client.delete(f"/items?ids={first['id']}", headers=with_key())).status_code == 422


async def test_a_key_holds_for_one_method_and_path_only(full_resource: ResourceClient) -> None:
    for row in await full_resource.create(count=2):
        for change in full_resource.changes(row):
            response = await full_resource.send(change, **with_key())
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
    lamp = await create_item(client)
    for _ in range(2):
        response = await client.get(f"/items/{lamp['id']}", headers=with_key(""))
        assert (response.status_code, "idempotency-replayed" in response.headers) == (200, False)


async def test_what_was_not_understood_is_not_stored(resource: ResourceClient) -> None:
    for body, status in (({}, 422), (resource.new(), 201)):
        assert (await resource.send(Request("POST", resource.path, body), **with_key())).status_code == status


@pytest.mark.parametrize("settings", [{}, {"coalesce": False}, {"batch_size_max": 3}], indirect=True)
async def test_many_at_once_each_happen_once(resource: ResourceClient) -> None:
    requests = {f"k-{number}": Request("POST", resource.path, resource.new()) for number in range(40)}

    async def create() -> list[httpx.Response]:
        return await asyncio.gather(*(resource.send(one, **with_key(key)) for key, one in requests.items()))

    first, again = await create(), await create()
    assert [response.status_code for response in first] == [201] * 40
    assert [response.content for response in again] == [response.content for response in first]
    assert all(response.headers["idempotency-replayed"] == "true" for response in again)
    assert all(
        response.json().items() >= one.body.items() for response, one in zip(first, requests.values(), strict=True)
    )
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
async def test_while_the_first_is_not_finished_a_repeat_is_refused_for_now(
    resource: ResourceClient, database_url: str, backend: str, shape: str
) -> None:
    request = Request("POST", resource.path, resource.new() if shape == "one" else [resource.new()])

    async def ask() -> httpx.Response:
        return await resource.send(request, **with_key())

    async with held(database_url, backend, resource.collection.table.name):
        finished, pending = await asyncio.wait(map(asyncio.create_task, [ask(), ask()]), return_when=FIRST_COMPLETED)
        [refused], [first] = finished, pending
        for repeat in (await refused, await ask()):
            assert code(repeat) == (409, "idempotency-key-in-use")
            assert problem(repeat)["retryable"]
    assert (await first).status_code == 201
    again = await ask()
    assert (again.content, again.headers["idempotency-replayed"]) == ((await first).content, "true")


@pytest.mark.parametrize("shape", ["one", "batch"])
async def test_while_the_first_is_not_finished_another_request_under_its_key_is_refused_for_good(
    resource: ResourceClient, database_url: str, backend: str, shape: str
) -> None:
    bodies = [resource.new() if shape == "one" else [resource.new()] for _ in range(2)]

    async def ask(body: Any) -> httpx.Response:
        return await resource.send(Request("POST", resource.path, body), **with_key())

    async with held(database_url, backend, resource.collection.table.name):
        tasks = [asyncio.create_task(ask(bodies[0])) for _ in range(2)]
        [refused], [first] = await asyncio.wait(tasks, return_when=FIRST_COMPLETED)
        assert code(await refused) == (409, "idempotency-key-in-use")  # so the first runs
        assert code(await ask(bodies[1])) == (422, "idempotency-key-reused")
    assert (await first).status_code == 201
    assert code(await ask(bodies[1])) == (422, "idempotency-key-reused")


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_another_instance_refuses_it_as_well(resource: ResourceClient, settings: Settings, backend: str) -> None:
    table, request = resource.collection.table.name, Request("POST", resource.path, resource.new())
    async with serving(settings) as other, held(settings.database_url, backend, table):
        first = asyncio.create_task(resource.send(request, **with_key()))
        while await execute(settings.database_url, WAITING) == [(0,)]:
            assert not first.done()
        repeat = await other.post(resource.path, json=request.body, headers=with_key())
        assert code(repeat) == (409, "idempotency-key-in-use")
        for body in (resource.new(), [request.body]):
            another = await other.post(resource.path, json=body, headers=with_key())
            assert code(another) == (422, "idempotency-key-reused")
    assert (await first).status_code == 201


@pytest.mark.parametrize("shape", ["one", "batch"])
async def test_another_request_under_a_key_takes_no_response_from_its_owner(
    resource: ResourceClient, settings: Settings, shape: str
) -> None:
    mine, others = (resource.new() if shape == "one" else [resource.new()] for _ in range(2))
    async with serving(settings) as other:
        first = await other.post(resource.path, json=mine, headers=with_key())
        assert first.status_code == 201
        for _ in range(20):
            clients = [resource.client, resource.client, other, other]
            asked = (
                client.post(resource.path, json=body, headers=with_key())
                for client in clients
                for body in (others, mine)
            )
            for number, response in enumerate(await asyncio.gather(*asked)):
                if response.status_code == 409:  # as two of the same came at the same time
                    assert code(response) == (409, "idempotency-key-in-use")
                elif number % 2:
                    assert without_request_id(response)[::2] == without_request_id(first)[::2]
                else:
                    assert code(response) == (422, "idempotency-key-reused")


async def test_a_failure_is_not_stored(resource: ResourceClient, database_url: str) -> None:
    table = resource.collection.table.name
    bodies = {"k-1": resource.new(), "k-2": [resource.new()]}
    for rename in (f"{table} RENAME TO elsewhere", f"elsewhere RENAME TO {table}"):
        await execute(database_url, f"ALTER TABLE {rename}")
        for key, body in bodies.items():
            response = await resource.send(Request("POST", resource.path, body), **with_key(key))
            assert response.status_code == 201 if rename.endswith(table) else response.status_code >= 500


async def test_a_key_is_there_with_its_row_or_not_at_all(resource: ResourceClient, database_url: str) -> None:
    """Where the key cannot be stored, nothing is written."""
    await execute(database_url, "ALTER TABLE idempotency_keys RENAME TO elsewhere")
    response = await resource.send(Request("POST", resource.path, resource.new()), **with_key())
    assert (response.status_code >= 500, await resource.everything()) == (True, [])


async def test_keys_are_deleted_after_their_lifetime_and_not_before(
    client: httpx.AsyncClient, database_url: str
) -> None:
    old = datetime.now(UTC) - timedelta(seconds=90)
    rows = [
        {"scope": str(n), "fingerprint": "", "response": b"", "created_at": old} for n in range(2 * STEP_ROWS_MAX + 1)
    ]
    database = open_database(database_url)
    async with database.engine.begin() as connection:
        await connection.execute(insert(idempotency_records), rows)
    await client.post("/items", json=LAMP, headers=with_key())
    try:
        cleaner = ExpiredRowsCleaner(database, key_lifetime_s=120)
        assert await cleaner.clean() == 0
        cleaner = ExpiredRowsCleaner(database, key_lifetime_s=60)
        assert await cleaner.clean() == 2 * STEP_ROWS_MAX + 1
    finally:
        await database.close()
    assert (await client.post("/items", json=LAMP, headers=with_key())).headers["idempotency-replayed"] == "true"


class Ahead(datetime):
    """The clock of a machine that is twenty minutes ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=20)


async def test_how_old_a_key_is_does_not_depend_on_the_clock_of_the_service(
    client: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.post("/items", json=LAMP, headers=with_key())
    monkeypatch.setattr("db.transactions.retention.datetime", Ahead, raising=False)
    database = open_database(database_url)
    assert await ExpiredRowsCleaner(database, key_lifetime_s=600).clean() == 0
    await database.close()
    again = await client.post("/items", json=LAMP, headers=with_key())
    assert (again.status_code, again.json()) == (201, first.json())
    assert await everything(client) == [first.json()]
