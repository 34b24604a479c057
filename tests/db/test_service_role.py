"""The role of the service, with the privileges that `grants` prints and no others: all works, and the log stays."""

from itertools import count
from pathlib import Path

import pytest
from sqlalchemy.exc import ProgrammingError

from db.engines.privileges import AUDIT_LOG, NEEDED
from service.settings import Settings
from tests.db.test_privileges import check, username
from tests.server.test_command_line import Run, run
from tests.support.audit import audit_log
from tests.support.issued import issue, store_user
from tests.support.resources import COLLECTIONS, ResourceClient
from tests.support.responses import PATIENT, execute, serving
from tests.support.roles import role, service_role
from tests.support.tokens import bearer

__all__ = ["run"]

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@on_postgresql
async def test_every_operation_works_with_the_privileges_that_are_granted(database_url: str) -> None:
    admin = await store_user(database_url, "root", "admin")
    token = await issue(database_url, admin)
    async with service_role(database_url) as url:
        settings = Settings(database_url=url, auth=frozenset({"tokens"}), auth_off_anywhere=False, **PATIENT)
        async with serving(settings) as client:
            client.headers.update(bearer(token))
            assert (await client.get("/readyz")).status_code == 200
            numbers = count(1)
            for collection in COLLECTIONS:
                resource = await ResourceClient(collection, client, numbers).prepared()
                rows = await resource.create(count=4)
                for request in [*resource.reads(*rows[:2]), *resource.writes(*rows[:2])]:
                    for key in ({}, {"idempotency-key": f"{request.method}-{request.url}"[:200]}):
                        if key and request.method in {"GET", "HEAD"}:
                            continue
                        response = await resource.send(request._replace(headers={**request.headers, **key}))
                        assert response.status_code < 500, (request, response.text)
            issued = await client.post(f"/users/{admin}/tokens", json={"name": "ci"})
            assert issued.status_code == 201, issued.text
            assert (await client.delete(f"/tokens/{issued.json()['id']}")).status_code == 204
    assert {each.resource for each in await audit_log(database_url)} == {"users", "tokens"}


@on_postgresql
async def test_the_role_adds_to_the_audit_log_and_can_do_nothing_else_with_it(database_url: str) -> None:
    async with service_role(database_url) as url:
        async with serving(Settings(database_url=url, **PATIENT)) as client:
            user = {"username": "ada", "email": "a@b", "name": "Ada"}
            assert (await client.post("/users", json=user)).status_code == 201
        before = await audit_log(database_url)
        for sql in (
            "SELECT * FROM audit_log",
            "UPDATE audit_log SET caller = 7",
            "DELETE FROM audit_log",
            "TRUNCATE audit_log",
            "DROP TABLE audit_log",
            "ALTER TABLE audit_log DISABLE TRIGGER ALL",
            "CREATE TABLE mine (id integer)",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                await execute(url, sql)
    assert (len(before), await audit_log(database_url)) == (1, before)


@on_postgresql
async def test_a_role_that_could_rewrite_the_log_is_told_so(database_url: str, tmp_path: Path) -> None:
    everything = ("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public",)
    async with service_role(database_url) as url, role(database_url, *everything) as other:
        needed, owner, careless = [await check(each, tmp_path) for each in (url, database_url, other)]
        await execute(database_url, f"REVOKE UPDATE, DELETE ON audit_log FROM {username(other)}")
        careful = await check(other, tmp_path)
    assert (needed.returncode, owner.returncode, careless.returncode) == (0, 0, 0)
    assert "audit_log" not in needed.stdout + careful.stdout
    assert "may change and delete what audit_log has (UPDATE, DELETE, TRUNCATE)" in owner.stdout
    assert "may change and delete what audit_log has (UPDATE, DELETE)" in careless.stdout


def test_the_command_prints_what_the_service_needs(run: Run) -> None:
    code, printed, _ = run("grants", 'My "role"', "--schema", "items")
    assert (code, 'GRANT USAGE ON SCHEMA items TO "My ""role""";\n' in printed) == (0, True)
    assert all(f"items.{table}" in printed for table in NEEDED)
    assert f'GRANT INSERT ON items.{AUDIT_LOG} TO "My ""role""";\n' in printed
