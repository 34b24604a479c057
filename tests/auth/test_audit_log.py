"""The audit log: a row for each change of a user or a token, in the transaction of the change, and nothing else."""

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import pytest

from db.engines.engine import open_database
from db.resources.items import ITEMS
from db.resources.tokens import TOKENS, Tokens
from db.resources.users import USERS, Users
from db.session import transaction
from db.tables.audited_store import AuditedWrite
from db.tables.call import Call, Origin
from db.tables.table import Deletion, Patch
from service.auth.commands import TokenRow
from service.http.operation import SAFE
from service.resources.users import UserResponse
from service.settings import Settings
from tests.auth.conftest import ADA, BOB
from tests.support.audit import Record, audit_log, what
from tests.support.issued import issue
from tests.support.resources import RESOURCES
from tests.support.responses import PATIENT, code, execute, serving
from tests.support.stores import opened_storage
from tests.support.tokens import MemoryTokens, bearer
from tests.support.users import create_user, create_users, new_user

ADMIN = 1_000_000
MADE: dict[str, Any] = {
    "username": None,
    "email": None,
    "name": None,
    "role": [None, "writer"],
    "is_active": [None, True],
}
GONE = {"role": ["writer", None], "is_active": [True, None]}
# Every commit of a changed user waits for whoever has this lock.
WAIT = (
    "CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'"
    " LANGUAGE plpgsql"
)
SLOW_COMMITS = (
    "CREATE CONSTRAINT TRIGGER wait AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION wait()"
)


async def test_every_verb_says_who_changed_what_and_by_which_request(
    service: httpx.AsyncClient, admin: dict[str, str], database_url: str
) -> None:
    async def send(method: str, url: str, body: Any = None) -> None:
        headers = {**admin, "x-request-id": f"{method}-{url}"[:40].replace("/", "_").replace("?", "_").split("=")[0]}
        assert (await service.request(method, url, json=body, headers=headers)).is_success, (method, url)

    before = len(await audit_log(database_url))
    await send("POST", "/users", new_user("cleo", password="correct horse"))
    await send("POST", "/users", [new_user("dan"), new_user("eve")])
    await send("PUT", "/users/3", new_user("cleo", name="Cleo C", role="admin"))
    await send("PATCH", "/users/3", {"is_active": False, "password": "another horse"})
    await send("PATCH", "/users/3", {"email": "cleo@example.org"})
    await send("PATCH", "/users", [{"id": 4, "role": "reader"}, {"id": 5, "username": "eva"}])
    await send("PATCH", "/users/4", {})
    await send("DELETE", "/users/3")
    await send("DELETE", "/users?ids=4,77")
    await send("DELETE", "/users/5?reassign_to=1")
    records = (await audit_log(database_url))[before:]
    assert {(each.caller, each.how, each.resource) for each in records} == {(ADMIN, "api", "users")}
    assert [(each.request_id, each.action, each.row_id, each.changes) for each in records] == [
        ("POST-_users", "create", 3, {**MADE, "password_hash": None}),
        ("POST-_users", "create", 4, MADE),
        ("POST-_users", "create", 5, MADE),
        ("PUT-_users_3", "update", 3, {"name": None, "role": ["writer", "admin"]}),
        ("PATCH-_users_3", "update", 3, {"is_active": [True, False], "password_hash": None}),
        ("PATCH-_users_3", "update", 3, {}),
        ("PATCH-_users", "update", 4, {"role": ["writer", "reader"]}),
        ("PATCH-_users", "update", 5, {"username": None}),
        ("DELETE-_users_3", "delete", 3, {"role": ["admin", None], "is_active": [False, None]}),
        ("DELETE-_users_ids", "delete", 4, {"role": ["reader", None], "is_active": [True, None]}),
        ("DELETE-_users_5_reassign_to", "delete", 5, GONE),
    ]


async def test_what_is_refused_leaves_no_row(
    service: httpx.AsyncClient, admin: dict[str, str], database_url: str
) -> None:
    before = await audit_log(database_url)
    assert (await service.post("/items", json={"name": "lamp", "price": 1, "owner_id": 1}, headers=admin)).is_success
    for method, url, body, status in (
        ("POST", "/users", new_user(ADA), 409),
        ("POST", "/users", [new_user("cleo"), new_user(ADA)], 409),
        ("PATCH", "/users/1", {"username": BOB}, 409),
        ("PATCH", "/users", [{"id": 1, "name": "A"}, {"id": 77, "name": "B"}], 404),
        ("PUT", "/users/77", new_user("dan"), 404),
        ("DELETE", "/users/77", None, 404),
        ("DELETE", "/users/1", None, 409),
        ("DELETE", "/users?ids=1,2", None, 409),
        ("DELETE", "/users/1?reassign_to=77", None, 422),
    ):
        for key in ({}, {"idempotency-key": type(body).__name__}):
            response = await service.request(method, url, json=body, headers={**admin, **key})
            assert response.status_code == status, (method, url, response.text)
    stale = {**admin, "if-match": '"7-json"'}
    assert (await service.patch("/users/1", json={"name": "A"}, headers=stale)).status_code == 412
    assert await audit_log(database_url) == before


@pytest.mark.parametrize("settings", [{"coalesce": True}, {"coalesce": False}], indirect=True, ids=["coalesced", ""])
async def test_requests_that_share_a_transaction_have_rows_of_their_own(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await create_user(client)
    names = ["ada", *(f"user-{n}" for n in range(30)), "user-7"]
    ids = [f"r-{n}" for n in range(len(names))]
    bodies = [new_user(name) for name in names]
    sent = [
        client.post("/users", json=body, headers={"x-request-id": id}) for body, id in zip(bodies, ids, strict=True)
    ]
    responses = await asyncio.gather(*sent)
    made = {(response.json()["id"], id) for response, id in zip(responses, ids, strict=True) if response.is_success}
    assert len(made) == 30
    records = (await audit_log(database_url))[1:]
    assert (len(records), {(each.row_id, each.request_id) for each in records}) == (30, made)
    assert {(each.caller, each.how, each.action) for each in records} == {(None, "api", "create")}


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", "/users", new_user("cleo")),
        ("POST", "/users", [new_user("cleo")]),
        ("PATCH", "/users/1", {"name": "A"}),
        ("PATCH", "/users", [{"id": 1, "name": "A"}]),
        ("DELETE", "/users/1", None),
        ("DELETE", "/users?ids=1", None),
        ("DELETE", "/users/1?reassign_to=2", None),
    ],
)
async def test_a_repeat_under_a_key_leaves_no_second_row(
    client: httpx.AsyncClient, database_url: str, method: str, url: str, body: Any
) -> None:
    await create_users(client, [ADA, BOB])
    before = len(await audit_log(database_url))
    for request_id in ("first", "second"):
        headers = {"idempotency-key": "key", "x-request-id": request_id}
        response = await client.request(method, url, json=body, headers=headers)
        assert (response.is_success, "idempotency-replayed" in response.headers) == (True, request_id == "second")
    assert [each.request_id for each in (await audit_log(database_url))[before:]] == ["first"]


async def test_the_tokens_that_go_with_a_user_are_recorded(client: httpx.AsyncClient, database_url: str) -> None:
    await create_users(client, [ADA, BOB, "cleo"])
    for user in (1, 2, 1, 3):
        await issue(database_url, user)
    await client.delete("/users/1", headers={"x-request-id": "one"})
    await client.delete("/users?ids=2,3", headers={"x-request-id": "many"})
    records = (await audit_log(database_url))[3:]
    assert [(each.request_id, each.resource, each.row_id, each.changes) for each in records] == [
        ("one", "users", 1, GONE),
        ("one", "tokens", 1, {"user_id": [1, None]}),
        ("one", "tokens", 3, {"user_id": [1, None]}),
        ("many", "users", 2, GONE),
        ("many", "tokens", 2, {"user_id": [2, None]}),
        ("many", "users", 3, GONE),
        ("many", "tokens", 4, {"user_id": [3, None]}),
    ]


async def test_tokens_are_recorded_without_their_secrets_and_their_uses_are_not(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await create_user(client)
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    call = Call(caller=7, origin=Origin("test", "r-1"))
    async with opened_storage(database_url) as storage:
        tokens = Tokens(storage, TOKENS, TokenRow)
        one = await tokens.create(call, (1, "one", "itm_one", noon, None, "a" * 64))
        [two] = await tokens.create_many(call, [(1, "two", "itm_two", None, None, "b" * 64)])
        await tokens.record_use(call, {one.id: noon})
        await tokens.delete(call, Deletion(one.id))
        await tokens.delete_many(call, [two.id])
    records = (await audit_log(database_url))[1:]
    made: dict[str, Any] = {"user_id": [None, 1], "name": None, "prefix": None, "digest": None}
    expires = "2026-01-02T12:00:00.000000Z"
    assert records == [
        Record(7, "test", "create", "tokens", 1, {**made, "expires_at": [None, expires]}, "r-1"),
        Record(7, "test", "create", "tokens", 2, made, "r-1"),
        Record(7, "test", "delete", "tokens", 1, {"user_id": [1, None], "expires_at": [expires, None]}, "r-1"),
        Record(7, "test", "delete", "tokens", 2, {"user_id": [1, None]}, "r-1"),
    ]


async def test_items_are_not_in_the_log(client: httpx.AsyncClient, database_url: str) -> None:
    await client.post("/items", json={"name": "lamp", "price": 1})
    await client.delete("/items/1")
    assert await audit_log(database_url) == []


async def test_a_change_of_a_role_names_both_also_where_two_change_it_at_once(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await create_user(client)
    async with serving(Settings(database_url=database_url, **PATIENT)) as other:
        roles = ["reader", "admin", "writer"] * 7
        each = [(client, other)[n % 2].patch("/users/1", json={"role": role}) for n, role in enumerate(roles)]
        assert all(response.is_success for response in await asyncio.gather(*each))
    changes = [changes.get("role") for *_, changes in (await what(database_url))[1:]]
    assert len(changes) == len(roles)
    steps = [change for change in changes if change]
    assert all(before[1] == after[0] for before, after in pairwise(steps))
    assert (steps[0][0], steps[-1][1]) == ("writer", (await client.get("/users/1")).json()["role"])


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_write_whose_client_gave_up_at_the_commit_happens_once_and_is_recorded_once(
    client: httpx.AsyncClient, database_url: str
) -> None:
    await create_user(client)
    await execute(database_url, WAIT, SLOW_COMMITS)
    database = open_database(database_url)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        response = await client.patch("/users/1", json={"name": "A"}, headers={"x-request-timeout": "3"})
        assert code(response) == (503, "commit-outcome-unknown")
    await database.close()
    assert (await client.patch("/users/1", json={"name": "B"})).json()["version"] == 3
    assert [changes for *_, changes in await what(database_url)] == [MADE, {"name": None}, {"name": None}]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_batches_of_patches_and_deletions_do_not_wait_for_each_other(database_url: str) -> None:
    async with opened_storage(database_url) as one, opened_storage(database_url) as another:
        stores = [Users(storage, USERS, UserResponse) for storage in (one, another)]

        async def write(store: Users[UserResponse], writes: list[Patch | Deletion]) -> None:
            async with transaction(store._database) as session:  # which raises what a deadlock is
                await store._run_writes(session, [AuditedWrite(Call(), write) for write in writes])

        for number in range(20):
            made = [
                await stores[0].create(
                    Call(), (f"u{number}-{place}", f"u{number}-{place}@x", "U", "reader", True, None)
                )
                for place in range(2)
            ]
            ids = [user.id for user in made]
            patch, deletion = Patch(ids[0], None, {"name": "V"}), Deletion(ids[1])
            await asyncio.gather(
                write(stores[0], [patch, deletion]),
                write(stores[1], [patch._replace(id=ids[1]), deletion._replace(id=ids[0])]),
            )


async def test_a_deleted_callers_changes_stay(
    service: httpx.AsyncClient, admin: dict[str, str], tokens: MemoryTokens, database_url: str
) -> None:
    as_ada = bearer(tokens.issue(1, "admin"))
    await service.patch("/users/2", json={"name": "B"}, headers=as_ada)
    assert (await service.delete("/users/1", headers=admin)).status_code == 204
    assert (1, "update", 2) in {(each.caller, each.action, each.row_id) for each in await audit_log(database_url)}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_on_sqlite_no_row_can_be_changed_or_deleted(client: httpx.AsyncClient, database_url: str) -> None:
    await create_user(client)
    before = await audit_log(database_url)
    for sql in ("UPDATE audit_log SET caller = 7", "DELETE FROM audit_log"):
        with pytest.raises(Exception, match="audit_log is append-only"):
            await execute(database_url, sql)
    assert await audit_log(database_url) == before


def test_every_write_of_an_audited_table_says_which_request_it_is_of() -> None:
    names = [table.name for table in (ITEMS, USERS, TOKENS) if table.audited]
    for path, resource in RESOURCES.items():
        for method in resource.operations.keys() - SAFE:
            is_audited = any(f"/{name}" in path for name in names)
            assert resource.operations[method].is_audited == is_audited, (method, path)
