"""A role that may not use every table: nothing pretends that the service could serve, and nothing is a plain 500."""

import asyncio
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import make_url

from service.settings import Settings
from tests.support.responses import PATIENT, code, execute, problem, serving
from tests.support.roles import role
from tests.support.serving import ROOT

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"
READ = "SELECT ON alembic_version, served_revisions"
RECORD = "INSERT ON audit_log"
ITEMS_ALONE = (f"{EVERYTHING} ON items", READ)
LAMP = {"name": "lamp", "price": 1}


def settings(url: str) -> Settings:
    return Settings(database_url=url, **PATIENT)


def username(url: str) -> str:
    return str(make_url(url).username)


async def check(url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command that says whether the service could become ready."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": url}
    command = [sys.executable, "-m", "service", "check"]
    return await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, env=environ, cwd=folder
    )


async def test_a_role_without_rights_on_a_table_is_not_ready_and_the_table_is_named(
    database_url: str, tmp_path: Path
) -> None:
    async with role(database_url, *ITEMS_ALONE) as url:
        checked = await check(url, tmp_path)
        async with serving(settings(url)) as client:
            response = await client.get("/readyz")
    detail = str(problem(response)["detail"])
    assert (code(response), checked.returncode) == ((503, "not-ready"), 1)
    for table in ("users", "tokens", "commit_records", "idempotency_keys"):
        assert f"{EVERYTHING} on {table}" in detail
        assert f"{EVERYTHING} on {table}" in checked.stderr
    assert "on items" not in detail


async def test_each_right_on_each_table_is_needed_and_named(database_url: str) -> None:
    tables = "items, users, tokens, commit_records, idempotency_keys"
    async with role(database_url, f"{EVERYTHING} ON {tables}", READ, RECORD) as url, serving(settings(url)) as client:
        assert (await client.get("/readyz")).status_code == 200
        each = [*product(tables.split(", "), EVERYTHING.split(", ")), ("audit_log", "INSERT")]
        for table, privilege in each:
            await execute(database_url, f"REVOKE {privilege} ON {table} FROM {username(url)}")
            detail = problem(await client.get("/readyz"))["detail"]
            assert detail == f"The role of DATABASE_URL lacks {privilege} on {table}: GRANT them."
            await execute(database_url, f"GRANT {privilege} ON {table} TO {username(url)}")


async def test_a_schema_that_may_not_be_used_is_no_schema_without_migrations(database_url: str, tmp_path: Path) -> None:
    async with role(database_url, f"{EVERYTHING} ON ALL TABLES IN SCHEMA public", READ) as url:
        await execute(database_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        checked = await check(url, tmp_path)
        async with serving(settings(url)) as client:
            detail = str(problem(await client.get("/readyz"))["detail"])
    assert ("GRANT USAGE" in detail, checked.returncode, "GRANT USAGE" in checked.stderr) == (True, 1, True)
    assert "migrate" not in detail + checked.stderr


@pytest.mark.parametrize("table", ["alembic_version", "served_revisions"])
async def test_a_revision_that_may_not_be_read_is_named(database_url: str, tmp_path: Path, table: str) -> None:
    other = "served_revisions" if table == "alembic_version" else "alembic_version"
    async with role(database_url, f"{EVERYTHING} ON ALL TABLES IN SCHEMA public") as url:
        await execute(database_url, f"REVOKE ALL ON {table} FROM {username(url)}")
        checked = await check(url, tmp_path)
        async with serving(settings(url)) as client:
            detail = str(problem(await client.get("/readyz"))["detail"])
    assert f"SELECT on {table}" in detail
    assert (checked.returncode, f"SELECT on {table}" in checked.stderr, other in checked.stderr) == (1, True, False)


async def test_a_table_that_is_gone_at_the_right_revision_is_named(database_url: str, tmp_path: Path) -> None:
    async with serving(settings(database_url)) as client:
        await execute(database_url, "DROP TABLE idempotency_keys")
        assert "No table idempotency_keys can be found" in problem(await client.get("/readyz"))["detail"]
    checked = await check(database_url, tmp_path)
    assert (checked.returncode, "no table idempotency_keys can be found" in checked.stderr) == (1, True)


async def test_rights_on_columns_are_rights(database_url: str) -> None:
    columns = "INSERT (name, price, in_stock, owner_id), UPDATE, SELECT, DELETE ON items"
    others = f"{EVERYTHING} ON users, tokens, commit_records, idempotency_keys"
    async with role(database_url, columns, others, READ, RECORD) as url, serving(settings(url)) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/items", json=LAMP)).status_code == 201


async def test_requests_that_need_a_right_that_is_missing_are_503_and_change_nothing(database_url: str) -> None:
    key = {"idempotency-key": "k"}
    insert = "INSERT INTO items (name, price, version, created_at, updated_at) VALUES ('lamp', 9.5, 1, now(), now())"
    await execute(database_url, insert)
    async with role(database_url, f"{EVERYTHING} ON items", READ) as url, serving(settings(url)) as client:
        for body in (LAMP, [LAMP, LAMP]):
            assert code(await client.post("/items", json=body)) == (503, "unavailable")
            assert code(await client.post("/items", json=body, headers=key)) == (503, "unavailable")
        assert code(await client.patch("/items", json=[{"id": 1, "price": 2}])) == (503, "unavailable")
        for method, sent in (("PUT", LAMP), ("PATCH", LAMP), ("DELETE", None)):
            assert code(await client.request(method, "/items/1", json=sent)) == (503, "unavailable"), method
        assert code(await client.delete("/items?ids=1,2")) == (503, "unavailable")
        for path in ("/users/1", "/users", "/users?ids=1", "/users?count=true", "/users/1?include=items"):
            assert code(await client.get(path)) == (503, "unavailable"), path
        [item] = (await client.get("/items")).json()
        assert (item["price"], item["version"]) == (9.5, 1)


async def test_grants_that_are_given_later_need_no_restart(database_url: str) -> None:
    async with role(database_url, *ITEMS_ALONE) as url, serving(settings(url)) as client:
        assert code(await client.get("/readyz")) == (503, "not-ready")
        await execute(
            database_url,
            f"GRANT {EVERYTHING} ON users, tokens, commit_records, idempotency_keys TO {username(url)}",
            f"GRANT {RECORD} TO {username(url)}",
        )
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/items", json=LAMP)).status_code == 201
