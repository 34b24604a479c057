"""Users: what they are made of, and the verbs that they share with items."""

from typing import Any

import httpx
import pytest

from tests.support.responses import code, pointers
from tests.support.users import create_user, every_user, new_user

WRONG: list[tuple[str, Any]] = [
    *[("username", value) for value in ("ab", "a" * 51, "Ada", "a b", "ada\n", "adä", "a@b", "", None, 7)],
    *[("email", value) for value in ("a", "@b", "a@", "@@", "a@b@c", "a\0@b", "a@b\0", "a@" + "b" * 254, "", None)],
    *[("name", value) for value in ("", "a" * 101, "a\0", None, 7)],
    *[("role", value) for value in ("owner", "Admin", "", None, 1)],
    *[("is_active", value) for value in (None, 1, "true")],
    *[("password", value) for value in ("seven..", "a" * 1025, "", 12345678)],
    *[(name, "x") for name in ("password_hash", "email_folded")],
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
    assert response.headers["location"] == f"users/{user['id']}"
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
    user = await create_user(client, **fields)
    shown = {name: value for name, value in fields.items() if name != "password"}
    assert user == user | shown
    assert (await client.put(f"/users/{user['id']}", json=fields)).json() == user | {
        "version": 2,
        "updated_at": (await every_user(client))[0]["updated_at"],
    }


async def test_every_wrong_field_is_named_and_nothing_is_written(client: httpx.AsyncClient) -> None:
    ada = await create_user(client)
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
