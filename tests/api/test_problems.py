"""Problems: one for each way a request can fail, and none shows what is private."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from db import errors
from db.engines.engine import open_database
from service.http import problems
from service.http.problems import ProblemType, render
from tests.support.responses import JSON, code, create_item, everything, execute, problem, read

KINDS = {kind.code: kind for kind in vars(problems).values() if isinstance(kind, ProblemType)} | {
    kind.code: kind for kind in (problems.not_found("item"), problems.stale("item"))
}
SECRET = "s3cret"
LAMP = {"name": "lamp", "price": 1}

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "malformed-body": ("POST", "/items", {"content": b"{", "headers": {"content-type": JSON}}),
    "invalid-query": ("GET", "/items?limit=0", {}),
    "invalid-cursor": ("GET", "/items?after=x", {}),
    "invalid-header": ("PUT", "/items/1", {"json": LAMP, "headers": {"if-match": "x"}}),
    "no-such-path": ("GET", "/", {}),
    "item-not-found": ("GET", "/items/2", {}),
    "method-not-allowed": ("POST", "/items/1", {}),
    "not-acceptable": ("GET", "/items", {"headers": {"accept": "text/html"}}),
    "stale": ("DELETE", "/items/1", {"headers": {"if-match": '"2-json"'}}),
    "body-too-large": ("POST", "/items", {"headers": {"content-type": JSON, "content-length": "9" * 18}}),
    "unsupported-media-type": ("POST", "/items", {"content": b"", "headers": {"content-type": "text/html"}}),
    "unsupported-content-coding": ("POST", "/items", {"json": {}, "headers": {"content-encoding": "gzip"}}),
    "invalid-body": ("POST", "/items", {"json": {}}),
}


@asynccontextmanager
async def locked(database_url: str) -> AsyncIterator[None]:
    """Keep everybody else from writing items."""
    database = open_database(database_url)
    try:
        async with database.engine.begin() as connection:
            if database.engine.dialect.name == "postgresql":
                await connection.exec_driver_sql("LOCK TABLE items IN SHARE MODE")
            yield
    finally:
        await database.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_request_that_cannot_be_served_has_its_problem(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    for name, (method, url, given) in REQUESTS.items():
        body = problem(await client.request(method, url, **given))
        kind = KINDS[name]
        assert (body["code"], body["status"], body["title"]) == (name, kind.status, kind.title)
        assert body["retryable"] is False
    assert await everything(client) == [item]


async def test_a_conflict_with_another_item_changes_nothing(client: httpx.AsyncClient, database_url: str) -> None:
    items = [await create_item(client, name="lamp"), await create_item(client, name=SECRET)]
    await execute(database_url, "CREATE UNIQUE INDEX one_of_each ON items (name)")
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/items", {"name": SECRET, "price": 1}),
        ("POST", "/items", [{"name": "new", "price": 1}, {"name": SECRET, "price": 1}]),
        ("PUT", "/items/1", {"name": SECRET, "price": 1}),
        ("PATCH", "/items/1", {"name": SECRET}),
        ("PATCH", "/items", [{"id": 2, "price": 1}, {"id": 1, "name": SECRET}]),
    ]
    for method, url, body in calls:
        response = await client.request(method, url, json=body)
        assert code(response) == (409, "conflict"), (method, url)
        assert SECRET not in response.text
        assert "one_of_each" not in response.text
    assert await everything(client) == items


async def test_of_writes_at_once_only_those_in_conflict_fail(client: httpx.AsyncClient, database_url: str) -> None:
    await execute(database_url, "CREATE UNIQUE INDEX one_of_each ON items (name)")
    names = [f"lamp {number % 48}" for number in range(64)]
    responses = await asyncio.gather(*(client.post("/items", json={"name": name, "price": 1}) for name in names))
    assert sorted(response.status_code for response in responses) == [201] * 48 + [409] * 16
    assert {item["name"] for item in await everything(client)} == set(names)


@on_postgresql
async def test_what_the_database_refuses_changes_nothing(client: httpx.AsyncClient, database_url: str) -> None:
    item = await create_item(client)
    await execute(database_url, f"ALTER TABLE items ADD CONSTRAINT {SECRET} CHECK (price < 100)")
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/items", {"name": "lamp", "price": 100}),
        ("POST", "/items", [LAMP, {"name": "lamp", "price": 100}]),
        ("PATCH", "/items/1", {"price": 100}),
        ("PATCH", "/items", [{"id": 1, "price": 100}]),
    ]
    for method, url, body in calls:
        response = await client.request(method, url, json=body)
        assert code(response) == (422, "refused"), (method, url)
        assert SECRET not in response.text
    assert await everything(client) == [item]


@on_postgresql
async def test_a_schema_that_does_not_fit_makes_the_service_unavailable(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await execute(database_url, "ALTER TABLE items RENAME COLUMN price TO amount")
    calls: list[tuple[str, str, Any]] = [
        ("GET", "/items/1", None),
        ("GET", "/items", None),
        ("POST", "/items", LAMP),
        ("POST", "/items", [LAMP]),
        ("PATCH", "/items", [{"id": 1, "price": 1}]),
    ]
    for method, url, body in calls:
        response = await client.request(method, url, json=body)
        assert code(response) == (503, "unavailable"), (method, url)
        assert "price" not in response.text


@pytest.mark.parametrize("settings", [{"statement_timeout_ms": 50}], indirect=True)
async def test_what_takes_too_long_is_given_up_and_changes_nothing(
    client: httpx.AsyncClient, database_url: str, backend: str
) -> None:
    item = await create_item(client)
    expected = {"postgresql": (504, "timeout"), "sqlite": (503, "unavailable")}[backend]
    async with locked(database_url):
        for method, url in (("POST", "/items"), ("PUT", "/items/1")):
            response = await client.request(method, url, json=LAMP)
            assert code(response) == expected
            assert response.json()["retryable"] is True
        assert await read(client, item["id"]) == item
    assert await everything(client) == [item]


@pytest.mark.parametrize("settings", [{"queue_length_max": 1}], indirect=True)
async def test_more_than_may_wait_is_refused_at_once(client: httpx.AsyncClient) -> None:
    item = await create_item(client)
    responses = await asyncio.gather(*(client.get(f"/items/{item['id']}") for _ in range(64)))
    refused = [response for response in responses if response.status_code != 200]
    assert 0 < len(refused) < 64
    for response in refused:
        assert code(response) == (503, "overloaded")
        assert response.headers["retry-after"] == "1"
        assert response.json()["retryable"] is True


@on_postgresql
async def test_a_write_whose_connection_is_lost_may_have_happened(client: httpx.AsyncClient, database_url: str) -> None:
    await execute(
        database_url,
        "CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END'",
        "CREATE TRIGGER hanging_up BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION hang_up()",
    )
    response = await client.post("/items", json=LAMP)
    assert code(response) == (503, "commit-outcome-unknown")
    assert response.json()["retryable"] is False
    assert "terminat" not in response.text


@pytest.mark.parametrize("settings", [{}, {"debug": True}], indirect=True, ids=["", "debug"])
async def test_a_failure_that_was_not_foreseen_shows_nothing_but_its_request_id(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(SECRET)  # no code of a database is a plain 500

    await create_item(client)
    monkeypatch.setattr("db.tables.sql.TableSQL.bind_patches", fail)
    patches: dict[str, Any] = {"/items/1": {"price": 2}, "/items": [{"id": 1, "price": 2}]}
    for url, patch in patches.items():
        response = await client.patch(url, json=patch, headers={"x-request-id": "abc"})
        body = problem(response)
        assert (body["status"], body["code"], body["request_id"]) == (500, "internal-error", "abc")
        assert (body["detail"], body["errors"], body["retryable"]) == ("The service failed.", [], False)
        assert not [word for word in (SECRET, "Error", "Traceback", "File", "items.py") if word in response.text]
    assert (await client.get("/livez")).status_code == 200


def words(text: str) -> list[Exception]:
    """Make every error that a request may end with; those that do not name rows or fields say the text."""
    naming = [
        errors.NotFound([7], "item"),
        errors.NotOwner([7], "item", [(1,)]),
        errors.VersionMismatch([7], "item"),
        errors.AlreadyExists([(1, "email")], "user"),
        errors.UnknownReference([("owner_id",)], "item"),
        errors.StillReferenced([7], "user", "items"),
    ]
    others = {
        *(set(problems.TYPE_BY_ERROR) - {type(word) for word in naming}),
        *(errors.SchemaMismatch, errors.ConnectionLost, errors.SerializationFailure),
    }
    return [*naming, *(word(text) for word in others)]


def test_every_word_of_the_database_has_a_problem_and_what_it_quotes_is_not_repeated() -> None:
    responses = [render(word, "abc") for word in words(f"{SECRET} in column price")]
    assert all(b"abc" in one.body for one in responses)
    assert not [one for one in responses if SECRET.encode() in one.body and b"overloaded" not in one.body]
    assert {one.status for one in responses} == {403, 404, 412, 409, 422, 503, 504}
