"""Users: what they are made of, and the verbs that they share with items."""

from typing import Any

import httpx
import pytest

from tests.support.answers import DECODE, ENCODE, MSGPACK, code, pointers
from tests.support.users import User, added_user, added_users, every_user, new_user

NOWHERE = "/users/424242"
WRONG: list[tuple[str, Any]] = [
    *[("username", value) for value in ("ab", "a" * 51, "Ada", "a b", "ada\n", "adä", "a@b", "", None, 7)],
    *[("email", value) for value in ("a", "@b", "a@", "@@", "a@b@c", "a\0@b", "a@b\0", "a@" + "b" * 254, "", None)],
    *[("name", value) for value in ("", "a" * 101, "a\0", None, 7)],
    *[("role", value) for value in ("owner", "Admin", "", None, 1)],
    *[("is_active", value) for value in (None, 1, "true")],
    *[("password", value) for value in ("seven..", "a" * 1025, "", 12345678)],
    *[(name, "x") for name in ("id", "version", "created_at", "updated_at", "password_hash", "email_folded", "colour")],
]
LONGEST = {
    "username": "._-" + "z9" * 23,
    "email": "é" * 127 + "@" + "💡" * 127,
    "name": "💡" * 100,
    "password": "é" * 1024,
}
SHORTEST = {"username": "a.-", "email": "@".join("ab"), "name": " ", "password": "💡" * 8}


async def test_a_new_user_has_defaults_for_what_it_is_not_given(client: httpx.AsyncClient) -> None:
    response = await client.post("/users", json={"username": "ada", "email": "Ada@Example.org", "name": "Ada L."})
    user = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/users/{user['id']}"
    assert response.headers["etag"] == '"1-json"'
    assert user == {
        "id": user["id"],
        "username": "ada",
        "email": "Ada@Example.org",
        "name": "Ada L.",
        "role": "writer",
        "is_active": True,
        "version": 1,
        "created_at": user["created_at"],
        "updated_at": user["created_at"],
    }
    assert (await client.get(f"/users/{user['id']}")).json() == user


@pytest.mark.parametrize("fields", [SHORTEST, LONGEST], ids=["shortest", "longest"])
async def test_the_bounds_of_lengths_count_characters_and_are_within(
    client: httpx.AsyncClient, fields: dict[str, str]
) -> None:
    user = await added_user(client, **fields)
    shown = {name: value for name, value in fields.items() if name != "password"}
    assert user == user | shown
    assert (await client.put(f"/users/{user['id']}", json=fields)).json() == user | {
        "version": 2,
        "updated_at": (await every_user(client))[0]["updated_at"],
    }


async def test_every_wrong_field_is_named_and_nothing_is_written(client: httpx.AsyncClient) -> None:
    ada = await added_user(client)
    here = f"/users/{ada['id']}"
    for name, value in WRONG:
        body = new_user("bob", **{name: value})
        for method, url in (("POST", "/users"), ("PUT", here)):
            response = await client.request(method, url, json=body)
            assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/{name}"]), (name, value)
        response = await client.patch(here, json={name: value})
        assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/{name}"]), (name, value)
        response = await client.post("/users", json=[new_user("cat"), body])
        assert (code(response), pointers(response)) == ((422, "invalid-body"), [f"/1/{name}"]), (name, value)
    assert await every_user(client) == [ada]


async def test_username_email_and_name_are_required(client: httpx.AsyncClient) -> None:
    ada = await added_user(client)
    for method, url in (("POST", "/users"), ("PUT", f"/users/{ada['id']}")):
        response = await client.request(method, url, json={"role": "admin"})
        assert code(response) == (422, "invalid-body")
        assert pointers(response) == ["/username", "/email", "/name"]
    assert await every_user(client) == [ada]


async def test_a_replacement_sets_defaults_for_what_is_absent(client: httpx.AsyncClient) -> None:
    ada = await added_user(client, role="admin", is_active=False)
    response = await client.put(f"/users/{ada['id']}", json=new_user("bob"))
    bob = response.json()
    assert bob == {
        **ada,
        **new_user("bob"),
        "role": "writer",
        "is_active": True,
        "version": 2,
        "updated_at": bob["updated_at"],
    }
    assert response.headers["etag"] == '"2-json"'
    assert await every_user(client) == [bob]


async def test_a_patch_leaves_what_is_absent(client: httpx.AsyncClient) -> None:
    ada = await added_user(client, role="admin", is_active=False)
    here, expected = f"/users/{ada['id']}", dict(ada)
    changes: list[User] = [
        {"name": "A"},
        {"role": "reader"},
        {"is_active": True},
        {"email": "A@b"},
        {"username": "a-a"},
    ]
    for change in changes:
        changed = (await client.patch(here, json=change)).json()
        expected |= {**change, "version": expected["version"] + 1, "updated_at": changed["updated_at"]}
        assert changed == expected
    assert (await client.patch(here, json={})).json() == expected
    assert await every_user(client) == [expected]


async def test_a_user_is_read_and_written_in_messagepack(client: httpx.AsyncClient) -> None:
    headers = {"content-type": MSGPACK, "accept": MSGPACK}
    body = ENCODE[MSGPACK](new_user("ada", password="s3cret-s3cret"))
    created = await client.post("/users", content=body, headers=headers)
    assert (created.status_code, created.headers["etag"]) == (201, '"1-msgpack"')
    user = DECODE[MSGPACK](created.content)
    assert user == DECODE[MSGPACK]((await client.get(f"/users/{user['id']}", headers=headers)).content)


async def test_a_deleted_user_is_gone_and_its_names_are_free(client: httpx.AsyncClient) -> None:
    ada = await added_user(client)
    here = f"/users/{ada['id']}"
    assert (await client.delete(here)).status_code == 204
    for method in ("GET", "DELETE"):
        assert code(await client.request(method, here)) == (404, "user-not-found")
    again = await added_user(client)
    assert again["id"] > ada["id"]


async def test_an_unknown_user_is_no_user_for_any_verb(client: httpx.AsyncClient) -> None:
    for method, body in (("GET", None), ("PUT", new_user()), ("PATCH", {"name": "A"}), ("PATCH", {}), ("DELETE", None)):
        response = await client.request(method, NOWHERE, json=body)
        assert code(response) == (404, "user-not-found")
        assert response.json()["detail"] == "No user has the id 424242."
    response = await client.patch("/users", json=[{"id": 424242, "name": "A"}])
    assert code(response) == (404, "user-not-found")
    for path in ("/users/0", "/users/x", "/users/01", "/users/9223372036854775808"):
        assert code(await client.get(path)) == (404, "no-such-path")


async def test_conditions_hold_for_users(client: httpx.AsyncClient) -> None:
    ada = await added_user(client)
    here = f"/users/{ada['id']}"
    assert (await client.get(here, headers={"if-none-match": '"1-json"'})).status_code == 304
    assert (await client.get(here, headers={"if-none-match": '"2-json"'})).status_code == 200
    for method, body in (("PUT", new_user("bob")), ("PATCH", {"name": "A"}), ("DELETE", None)):
        for tags in ('"2-json"', '"2-json", "3-json"'):
            response = await client.request(method, here, json=body, headers={"if-match": tags})
            assert code(response) == (412, "stale")
    assert await every_user(client) == [ada]
    assert (await client.patch(here, json={"name": "A"}, headers={"if-match": '"1-json"'})).json()["version"] == 2
    assert (await client.put(here, json=new_user(), headers={"if-match": '"9-json", "2-json"'})).json()["version"] == 3
    assert (await client.delete(here, headers={"if-match": '"3-msgpack"'})).status_code == 204


async def test_head_tells_what_get_would(client: httpx.AsyncClient) -> None:
    ada = await added_user(client)
    for url in (f"/users/{ada['id']}", "/users", f"/users/{ada['id']}?include=items"):
        head, get = await client.head(url), await client.get(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-type", "content-length"):
            assert head.headers.get(name) == get.headers.get(name)


async def test_a_batch_is_answered_in_its_own_order(client: httpx.AsyncClient) -> None:
    bodies = [new_user(f"user-{n * 7 % 1000}") for n in range(1000)]
    response = await client.post("/users", json=bodies)
    users = response.json()
    assert response.status_code == 201
    assert [user["username"] for user in users] == [body["username"] for body in bodies]
    assert len({user["id"] for user in users}) == 1000
    patches = [{"id": user["id"], "version": 1, "name": user["email"][:9]} for user in reversed(users)]
    changed = (await client.patch("/users", json=patches)).json()
    assert [(user["id"], user["version"], user["name"]) for user in changed] == [
        (patch["id"], 2, patch["name"]) for patch in patches
    ]
    ids = [user["id"] for user in changed]
    some = ",".join(map(str, [ids[5], 424242, ids[0]]))
    assert (await client.get(f"/users?ids={some}")).json() == [changed[5], changed[0]]
    assert (await client.delete(f"/users?ids={some}")).json() == [ids[5], ids[0]]
    assert len(await every_user(client)) == 998


async def test_a_batch_of_patches_is_all_or_nothing(client: httpx.AsyncClient) -> None:
    users = await added_users(client, ["ada", "bob"])
    patches = [{"id": user["id"], "name": "X"} for user in users]
    for last, expected in (
        ({"id": 424242, "name": "X"}, (404, "user-not-found")),
        ({"id": users[1]["id"], "version": 7}, (412, "stale")),
        ({"id": users[0]["id"]}, (422, "invalid-body")),
    ):
        assert code(await client.patch("/users", json=[patches[0], last])) == expected
    assert await every_user(client) == users
