"""Usernames and emails are unique: a clash is a 409 that points to each field, and changes nothing."""

from typing import Any

import httpx
import pytest

from tests.api.test_idempotency import with_key
from tests.support.responses import code, pointers
from tests.support.users import User, create_user, create_users, every_user, new_user


def clash(response: httpx.Response) -> list[str]:
    """Return what a 409 points to."""
    assert code(response) == (409, "already-exists")
    assert not response.json()["retryable"]
    return pointers(response)


async def test_two_taken_values_are_both_named_wherever_they_are_written(client: httpx.AsyncClient) -> None:
    names, fields = ["username", "email"], {"username": "ada", "email": "Ada@Example.org"}
    users = await create_users(client, ["ada", "bob"])
    taken, here = new_user("cat", **fields), f"/users/{users[1]['id']}"
    assert clash(await client.post("/users", json=taken)) == [f"/{name}" for name in names]
    assert clash(await client.put(here, json=taken)) == [f"/{name}" for name in names]
    assert clash(await client.patch(here, json=fields)) == [f"/{name}" for name in names]
    batch = [new_user("dan"), taken, new_user("eve")]
    assert clash(await client.post("/users", json=batch)) == [f"/1/{name}" for name in names]
    patches = [{"id": users[1]["id"], **fields}]
    assert clash(await client.patch("/users", json=patches)) == [f"/0/{name}" for name in names]
    assert await every_user(client) == users


async def test_every_clash_of_a_batch_is_named(client: httpx.AsyncClient) -> None:
    users = await create_users(client, ["ada", "bob"])
    batch = [new_user("bob"), new_user("cat"), new_user("dan", email="ADA@example.org"), new_user("ada")]
    assert clash(await client.post("/users", json=batch)) == [
        "/0/username",
        "/0/email",
        "/2/email",
        "/3/username",
        "/3/email",
    ]
    assert await every_user(client) == users


async def test_of_equal_members_of_a_batch_the_later_is_named(client: httpx.AsyncClient) -> None:
    users = await create_users(client, ["ada", "bob", "cat"])
    batch = [new_user("dan"), new_user("eve", email="DAN@example.org"), new_user("dan", email="x@y")]
    assert clash(await client.post("/users", json=batch)) == ["/1/email", "/2/username"]
    patches: list[User] = [
        {"id": users[2]["id"], "email": "new@x", "username": "new"},
        {"id": users[0]["id"], "email": "NEW@X"},
        {"id": users[1]["id"], "username": "new"},
    ]
    assert clash(await client.patch("/users", json=patches)) == ["/1/email", "/2/username"]
    assert await every_user(client) == users


async def test_a_user_may_send_its_own_values_again(client: httpx.AsyncClient) -> None:
    ada = await create_user(client)
    here = f"/users/{ada['id']}"
    assert (await client.put(here, json=new_user("ada"))).status_code == 200
    changed = await client.patch(here, json={"username": "ada", "email": "ADA@EXAMPLE.org"})
    assert changed.json() == ada | {
        "email": "ADA@EXAMPLE.org",
        "version": 3,
        "updated_at": changed.json()["updated_at"],
    }
    batch = await client.patch("/users", json=[{"id": ada["id"], "username": "ada", "email": "aDa@example.org"}])
    assert batch.status_code == 200


@pytest.mark.parametrize(
    ("one", "other"),
    [("Straße@x", "STRASSE@x"), ("İ@x", "i̇@x"), ("e\u0301@x", "é@x")],
)
async def test_emails_whose_characters_do_not_correspond_one_by_one_are_different(
    client: httpx.AsyncClient, one: str, other: str
) -> None:
    await create_users(client, [new_user("ada", email=one), new_user("bob", email=other)])


@pytest.mark.parametrize(("one", "other"), [("É@x", "é@X"), ("Σ@x", "ς@x"), ("ẞ@x", "ß@x"), ("\u2126@x", "ω@x")])
async def test_emails_that_differ_in_case_alone_are_equal_beyond_ascii(
    client: httpx.AsyncClient, one: str, other: str
) -> None:
    await create_user(client, email=one)
    assert clash(await client.post("/users", json=new_user("bob", email=other))) == ["/email"]


SWAPS: dict[str, list[User]] = {
    "usernames": [{"username": "bob"}, {"username": "ada"}, {}],
    "emails": [{"email": "BOB@example.org"}, {"email": "Ada@example.org"}, {}],
    "both": [
        {"username": "bob", "email": "bob@example.org"},
        {"username": "ada", "email": "ada@example.org", "role": "admin"},
        {},
    ],
    "three in turn": [{"username": "bob"}, {"username": "cat"}, {"username": "ada"}],
    "one gives way": [{"username": "bob"}, {"username": "dan"}, {"email": "x@y"}],
}


@pytest.mark.parametrize("has_key", [False, True], ids=["", "with key"])
@pytest.mark.parametrize("changes", SWAPS.values(), ids=SWAPS)
@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
async def test_users_swap_their_names_in_one_batch(
    client: httpx.AsyncClient,
    changes: list[User],
    has_key: bool,
    backwards: bool,
) -> None:
    users = await create_users(client, ["ada", "bob", "cat"])
    patches = [{"id": user["id"], "version": 1, **change} for user, change in zip(users, changes, strict=True)]
    request: dict[str, Any] = {"json": patches[:: -1 if backwards else 1], "headers": with_key() if has_key else {}}
    response = await client.patch("/users", **request)
    assert response.status_code == 200, response.content
    found = await every_user(client)
    assert sorted(response.json(), key=lambda user: int(user["id"])) == found
    assert found == [
        {**user, **change, "version": 2 if change else 1, "updated_at": now["updated_at"]}
        for user, change, now in zip(users, changes, found, strict=True)
    ]
    if has_key:
        again = await client.patch("/users", **request)
        assert (again.content, again.headers["idempotency-replayed"]) == (response.content, "true")
        assert await every_user(client) == found


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"id": 424242}, (404, "user-not-found")),
        ({"version": 7, "name": "C"}, (412, "stale")),
        ({"username": "dan"}, (409, "already-exists")),
    ],
)
async def test_a_swap_that_fails_leaves_every_name_as_it_was(
    client: httpx.AsyncClient, last: User, expected: tuple[int, str]
) -> None:
    users = await create_users(client, ["ada", "bob", "cat", "dan"])
    patches = [
        {"id": users[0]["id"], "username": "bob"},
        {"id": users[1]["id"], "username": "ada"},
        {"id": users[2]["id"], **last},
    ]
    response = await client.patch("/users", json=patches)
    assert code(response) == expected
    if expected[0] == 409:
        assert pointers(response) == ["/2/username"]
    assert await every_user(client) == users


async def test_two_users_do_not_swap_by_one_patch_after_the_other(client: httpx.AsyncClient) -> None:
    users = await create_users(client, ["ada", "bob"])
    assert clash(await client.patch(f"/users/{users[0]['id']}", json={"username": "bob"})) == ["/username"]
    assert (await client.patch(f"/users/{users[1]['id']}", json={"username": "bo."})).status_code == 200
    assert (await client.patch(f"/users/{users[0]['id']}", json={"username": "bob"})).status_code == 200
