"""Users as tests make and read them."""

from collections.abc import Sequence
from typing import Any

import httpx

from db.types import fold
from tests.support.responses import walked

User = dict[str, Any]

ORDERS = [sign + name for name in ("id", "username", "email", "created_at") for sign in ("", "-")]


def new_user(username: str = "ada", /, **fields: Any) -> User:
    """Make the body of a new user, with what is not given made up."""
    return {"username": username, "email": f"{username}@example.org", "name": username.title(), **fields}


async def create_user(client: httpx.AsyncClient, username: str = "ada", /, **fields: Any) -> User:
    """Create a user."""
    [user] = await create_users(client, [new_user(username, **fields)])
    return user


async def create_users(client: httpx.AsyncClient, users: Sequence[str | User]) -> list[User]:
    """Create users, by their names alone or with all of their fields."""
    response = await client.post("/users", json=[new_user(one) if isinstance(one, str) else one for one in users])
    assert response.status_code == 201, response.content
    return list(response.json())


async def every_user(client: httpx.AsyncClient) -> list[User]:
    """Return all users there are."""
    return await walked(client, "/users?limit=1000")


def ordered(users: Sequence[User], order: str) -> list[User]:
    """Sort users as a list is to have them."""
    name = order.removeprefix("-")

    def key(user: User) -> tuple[Any, int]:
        return (fold(user[name]) if name == "email" else user[name]), user["id"]

    return sorted(users, key=key, reverse=order.startswith("-"))
