"""Passwords: write-only, stored as argon2id, and in no response, log or record."""

import asyncio
import logging
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from service.http.derived import merge_patch
from service.resources.users import UserCreate
from tests.api.test_idempotency import repeated, with_key, without_request_id
from tests.support.responses import JSON, MSGPACK, code, create_item, execute, pointers
from tests.support.serving import ServiceProcess
from tests.support.users import create_user, create_users, new_user

SECRET = "correct-horse-battery"
OTHER = "staple-staple-staple"
STORED = "SELECT password_hash FROM users ORDER BY id"
RECORDS = "SELECT fingerprint, response FROM idempotency_keys ORDER BY created_at, fingerprint"


async def stored(database_url: str) -> list[str | None]:
    """Return the hashes of all users."""
    return [found for (found,) in await execute(database_url, STORED)]


def is_hash_of(found: str | None, password: str) -> bool:
    try:
        return PasswordHasher().verify(found or "", password)
    except VerifyMismatchError:
        return False


async def test_a_password_is_stored_as_argon2id_with_a_salt_of_its_own(
    client: httpx.AsyncClient, database_url: str
) -> None:
    passwords = [SECRET, SECRET, "é" * 1024, "nul\0nul\0"]
    await create_users(client, [new_user(f"user-{n}", password=one) for n, one in enumerate(passwords)])
    await create_user(client, "without")
    await create_user(client, "with-null", password=None)
    hashes = await stored(database_url)
    assert hashes[4:] == [None, None]
    assert len(set(hashes[:4])) == 4
    for found, password in zip(hashes, passwords, strict=False):
        assert (found or "").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert is_hash_of(found, password)
        assert not is_hash_of(found, password[:-1])


async def test_a_password_stays_unless_it_is_written(client: httpx.AsyncClient, database_url: str) -> None:
    ada = await create_user(client, password=SECRET)
    here = f"/users/{ada['id']}"
    first = await stored(database_url)
    for method, url, body in (
        ("PUT", here, new_user("ada")),
        ("PATCH", here, {"name": "A"}),
        ("PATCH", here, {}),
        ("PATCH", "/users", [{"id": ada["id"], "role": "admin"}]),
    ):
        assert (await client.request(method, url, json=body)).status_code == 200
        assert await stored(database_url) == first


async def test_a_password_is_changed_and_removed_by_every_verb_and_counts_as_a_change(
    client: httpx.AsyncClient, database_url: str
) -> None:
    ada = await create_user(client)
    here, version = f"/users/{ada['id']}", 1
    for method, url in (("PUT", here), ("PATCH", here), ("PATCH", "/users")):
        for password in (SECRET, OTHER, None):
            body: Any = {**(new_user("ada") if method == "PUT" else {}), "password": password}
            body = [{"id": ada["id"], **body}] if url == "/users" else body
            response = await client.request(method, url, json=body)
            [user] = response.json() if url == "/users" else [response.json()]
            version += 1
            assert user == ada | {"version": version, "updated_at": user["updated_at"]}
            [found] = await stored(database_url)
            assert found is None if password is None else is_hash_of(found, password)


async def test_a_password_that_is_refused_is_not_repeated(client: httpx.AsyncClient) -> None:
    for password in (SECRET[:7], SECRET * 60, [SECRET], {SECRET: SECRET}):
        response = await client.post("/users", json=new_user(password=password))
        assert (code(response), pointers(response)) == ((422, "invalid-body"), ["/password"])
        assert SECRET[:7] not in response.text
    for content in (f'{{"password": "{SECRET}"', f'{{"password": "{SECRET}\xff"'.encode("latin-1"), f'"{SECRET}"'):
        response = await client.post("/users", content=content, headers={"content-type": JSON})
        assert response.status_code in {400, 422}
        assert SECRET not in response.text


async def test_a_password_is_in_no_response(client: httpx.AsyncClient) -> None:
    ada = await create_user(client, password=SECRET)
    await create_item(client, owner_id=ada["id"])
    here = f"/users/{ada['id']}"
    for accept in (JSON, MSGPACK):
        for method, url, body in (
            ("GET", here, None),
            ("GET", "/users", None),
            ("GET", f"/users?ids={ada['id']}", None),
            ("GET", f"{here}?include=items", None),
            ("POST", "/users", new_user("ada", password=SECRET)),
            ("POST", "/users", new_user(f"bob{len(accept)}", password=SECRET)),
            ("PUT", here, new_user("ada", password=SECRET)),
            ("PATCH", here, {"password": SECRET}),
            ("PATCH", here, {"password": SECRET, "email": "bad"}),
            ("PATCH", "/users", [{"id": ada["id"], "password": SECRET}]),
            ("PATCH", "/users", [{"id": 424242, "password": SECRET}]),
            ("DELETE", here, None),
        ):
            response = await client.request(method, url, json=body, headers={"accept": accept})
            assert b"password" not in response.content
            assert b"argon2" not in response.content
            assert SECRET.encode() not in response.content


@pytest.mark.parametrize("settings", [{"debug": True, "access_log": True}], indirect=True)
async def test_a_password_is_in_no_line_of_the_log(
    client: httpx.AsyncClient, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ada = await create_user(client, password=SECRET)
    await client.patch(f"/users/{ada['id']}", json={"password": SECRET}, headers=with_key())
    await client.post("/users", json=new_user("x", password=SECRET))
    await execute(database_url, "ALTER TABLE users RENAME TO elsewhere")
    for json in (new_user(password=SECRET), [new_user(password=SECRET)]):
        for headers in ({}, with_key()):
            assert (await client.post("/users", json=json, headers=headers)).status_code >= 500
    assert "request failed" in caplog.text
    assert "INSERT INTO users" in caplog.text
    assert SECRET not in caplog.text


def test_not_even_the_hash_of_a_password_is_logged(database_url: str) -> None:
    """Neither with the arguments of a statement, nor in the database's own words for what it refuses."""
    with ServiceProcess(database_url, ITEMSVC_DEBUG="on") as service, service.client() as client:
        for username, headers in (("ada", {}), ("bob", with_key())):
            body = new_user(username, password=SECRET)
            assert client.post("/users", json=body, headers=headers).status_code == 201
            batch = [new_user(f"{username}-{n}", password=SECRET) for n in range(3)]
            response = client.post("/users", json=batch, headers=headers and with_key("batch"))
            assert response.status_code == 201
            url = f"/users/{response.json()[0]['id']}"
            assert client.patch(url, json={"password": SECRET}, headers=headers).status_code == 200
        assert "INSERT INTO users" in service.log
        log = service.log
    assert "argon2id$v" not in log
    assert SECRET not in log
    hashes = asyncio.run(execute(database_url, "SELECT password_hash FROM users"))
    parts = {part for (each,) in hashes for part in each.split("$")[4:]}  # the salt, the digest
    assert not [part for part in parts if part[:12] in log or part[-12:] in log]


def test_what_has_a_password_does_not_show_it() -> None:
    assert repr(UserCreate("ada", "a@b", "Ada", password=SECRET)) == "UserCreate(...)"
    patch = merge_patch(UserCreate)
    assert repr(patch(password=SECRET)) == "UserPatch(...)"


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", "/users", new_user("bob")),
        ("POST", "/users", [new_user("bob")]),
        ("PUT", "/users/1", new_user("ada")),
        ("PATCH", "/users/1", {}),
        ("PATCH", "/users", [{"id": 1}]),
    ],
)
async def test_a_repeat_with_another_password_gets_the_first_response(
    client: httpx.AsyncClient, database_url: str, method: str, url: str, body: Any
) -> None:
    await create_user(client)

    def with_password(password: str | None) -> Any:
        return [{**body[0], "password": password}] if isinstance(body, list) else {**body, "password": password}

    first = await repeated(client, method, url, json=with_password(SECRET))
    assert first.is_success
    hashes = await stored(database_url)
    again = await client.request(method, url, json=with_password(OTHER), headers=with_key())
    assert again.headers.pop("idempotency-replayed") == "true"
    assert without_request_id(again) == without_request_id(first)
    assert await stored(database_url) == hashes
    for other in (with_password(None), body):
        refused = await client.request(method, url, json=other, headers=with_key())
        assert code(refused) == (422, "idempotency-key-reused")


async def test_nothing_that_is_stored_under_a_key_depends_on_the_password(
    client: httpx.AsyncClient, database_url: str
) -> None:
    ada = await create_user(client)
    for password in (SECRET, OTHER):
        for content_type, encoded in ((JSON, '{"password": "%s"}'), (JSON, '{ "password":"%s" }')):
            headers = with_key(f"{password}-{len(encoded)}", **{"content-type": content_type, "if-match": '"7-json"'})
            response = await client.patch(f"/users/{ada['id']}", content=encoded % password, headers=headers)
            assert response.status_code == 412
    fingerprints = {fingerprint for fingerprint, _ in await execute(database_url, RECORDS)}
    assert len(fingerprints) == 1
    dump = repr(await execute(database_url, "SELECT * FROM idempotency_keys"))
    assert "argon2" not in dump
    assert SECRET not in dump
    assert "password" not in dump


async def test_the_document_has_passwords_in_requests_alone(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    having = {name for name, schema in schemas.items() if "password" in schema.get("properties", {})}
    assert having == {"UserCreate", "UserPatch", "BatchUserPatch"}
    assert all(schemas[name]["properties"]["password"]["writeOnly"] for name in having)
