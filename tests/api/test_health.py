"""Probes: alive without the database, ready only with it and its schema."""

import asyncio
from itertools import product

import httpx
import msgspec
import pytest
from sqlalchemy import make_url

from db import migrate, revisions
from db.engines.engine import open_database
from service.settings import Settings
from tests.support.documented import DOCUMENT
from tests.support.responses import JSON, MSGPACK, PROBLEM, code, execute, problem, serving
from tests.support.waiting import LIMIT_S, PAUSE_S

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


async def becomes(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask until readiness has this status."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            response = await client.get("/readyz")
            if response.status_code == status:
                return response
            await asyncio.sleep(PAUSE_S)


async def test_a_service_that_runs_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    for path, status in (("/livez", "alive"), ("/readyz", "ready")):
        response = await client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": status})
        assert (await client.head(path)).status_code == 200
        response = await client.get(path, headers={"accept": MSGPACK})
        assert msgspec.msgpack.decode(response.content) == {"status": status}


QUERIES = ("", "?", "?cb=1", "?cb=1&cb=2", "?ids=x", "?%FF=%", "?" + "&" * 100, "?" + "%" * 3000)
HEADERS = [
    *(("accept", text) for text in ("text/plain", "text/html;q=1", "*/*;q=0", "", "nonsense", "a," * 9000)),
    *((name, "x") for name in ("x-request-timeout", "if-match", "if-none-match", "content-type", "content-encoding")),
]


async def test_a_probe_has_its_response_whatever_it_is_asked_with(client: httpx.AsyncClient, database_url: str) -> None:
    for ready in (200, 503):
        for path, method, query, header in product(("/livez", "/readyz"), ("GET", "HEAD"), QUERIES, HEADERS):
            response = await client.request(method, path + query, headers=[header])
            expected = (200, JSON) if path == "/livez" or ready == 200 else (503, PROBLEM)
            found = (response.status_code, response.headers["content-type"])
            assert found == expected, (path, query, header)
        await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert code(await client.post("/livez?cb=1")) == (405, "method-not-allowed")


@on_postgresql
async def test_a_database_that_responds_with_a_refusal_is_not_called_silent(database_url: str) -> None:
    url = make_url(database_url).set(database="nowhere").render_as_string(hide_password=False)
    async with serving(Settings(database_url=url)) as client:
        response = await client.get("/readyz")
    assert code(response) == (503, "not-ready")
    assert problem(response)["detail"] == "The database cannot be used; the log says why."


def test_the_document_has_no_other_response_to_a_probe() -> None:
    found = {path: set(DOCUMENT["paths"][path]["get"]["responses"]) for path in ("/livez", "/readyz")}
    assert found == {"/livez": {"200", "500"}, "/readyz": {"200", "500", "503"}}


async def test_a_service_with_an_older_schema_is_not_ready_until_it_is_migrated(
    client: httpx.AsyncClient, database_url: str
) -> None:
    database = open_database(database_url)
    try:
        await migrate.downgrade(database, "base")
        response = await client.get("/readyz")
        assert code(response) == (503, "not-ready")
        assert response.json()["retryable"] is True
        assert (
            response.json()["detail"]
            == f"The schema is at base, not at {revisions.head()}: run python -m service migrate."
        )
        assert (await client.get("/livez")).status_code == 200
        await migrate.upgrade(database)
    finally:
        await database.close()
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.post("/items", json={"name": "lamp", "price": 1})).status_code == 201


async def test_a_service_is_ready_with_a_newer_schema_if_that_has_only_additions(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
    response = await client.get("/readyz")
    assert code(response) == (503, "not-ready")
    assert "9999" in response.json()["detail"]
    await execute(database_url, "INSERT INTO served_revisions VALUES ('9999')")
    assert (await client.get("/readyz")).status_code == 200
    await execute(database_url, "DELETE FROM served_revisions WHERE revision <> '9999'")
    assert code(await client.get("/readyz")) == (503, "not-ready")


@on_postgresql
async def test_a_service_whose_schema_was_never_migrated_is_not_ready(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await execute(database_url, "DROP TABLE alembic_version")
    response = await client.get("/readyz")
    assert code(response) == (503, "not-ready")
    assert "base" in response.json()["detail"]


@on_postgresql
async def test_a_service_without_its_database_is_alive_but_not_ready_until_it_is_back(
    client: httpx.AsyncClient, database_url: str, postgres_url: str
) -> None:
    name = make_url(database_url).database
    hang_up = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await execute(postgres_url, f"{hang_up}'{name}'")
    assert problem(await becomes(client, 503))["code"] == "not-ready"
    assert (await client.get("/livez")).status_code == 200
    for url in ("/items/1", "/items", "/items?ids=1"):
        assert code(await client.get(url)) == (503, "unavailable"), url
    await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await becomes(client, 200)


@on_postgresql
@pytest.mark.parametrize("settings", [{"statement_timeout_ms": 50}], indirect=True)
async def test_a_service_whose_database_does_not_respond_is_not_ready(
    client: httpx.AsyncClient, database_url: str
) -> None:
    database = open_database(database_url)
    try:
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql("LOCK TABLE alembic_version")
            assert code(await client.get("/readyz")) == (503, "not-ready")
            assert (await client.get("/livez")).status_code == 200
    finally:
        await database.close()
    assert (await client.get("/readyz")).status_code == 200
