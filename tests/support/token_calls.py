"""Calls of the operations of tokens, as tests make them."""

from typing import Any

import httpx

from tests.support.resources import content
from tests.support.users import User, create_user

PASSWORD = "correct-horse-battery"


async def user_with_password(client: httpx.AsyncClient, name: str = "ada", /, **fields: Any) -> User:
    """Create a user who can sign in."""
    return await create_user(client, name, password=PASSWORD, **fields)


async def log_in(
    client: httpx.AsyncClient, name: str = "ada", password: str = PASSWORD, **headers: str
) -> httpx.Response:
    """Ask for a token with a name and a password."""
    return await client.post("/tokens", auth=httpx.BasicAuth(name, password), headers=headers)


async def use_tokens(client: httpx.AsyncClient, media_type: str) -> None:
    """Use each operation of tokens."""
    headers = {"accept": media_type}
    user = await user_with_password(client)
    here = f"/users/{user['id']}/tokens"
    issued = await client.post(here, json={"name": "billing"}, headers=headers)
    for method in ("GET", "HEAD"):
        await client.request(method, here, headers=headers)
    await client.delete(f"/tokens/{content(issued)['id']}", headers=headers)
    await log_in(client, accept=media_type)
