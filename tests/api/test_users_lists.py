"""Lists of users: their orders, filters and pages."""

from collections.abc import Callable

import httpx
import pytest

from tests.support.responses import code, next_url, pointers, walked
from tests.support.users import ORDERS, User, create_users, new_user, ordered

ROLES = ("reader", "writer", "admin")


async def crowd(client: httpx.AsyncClient) -> list[User]:
    """Create users whose orders all differ; those of one batch were created at the same time."""
    names = ["zoe", "a.b", "a-b", "a_b", "ab1", "ab.", "0ab", "mia", "lea", "bob", "eve"]
    emails = ["Zoë@x", "zoe@x", "ZOF@x", "É@x", "e@x", "z@x", "a@x", "B@x", "ss@x", "ß@x", "_@x"]
    made = [
        new_user(name, email=email, role=ROLES[n % 3], is_active=n % 4 > 0)
        for n, (name, email) in enumerate(zip(names, emails, strict=True))
    ]
    return [*await create_users(client, made[:6]), *await create_users(client, made[6:])]


@pytest.mark.parametrize("limit", [1, 2, 4, 1000])
async def test_a_walk_gives_every_user_once_and_in_order(client: httpx.AsyncClient, limit: int) -> None:
    users = await crowd(client)
    for order in ORDERS:
        assert await walked(client, f"/users?order={order}&limit={limit}") == ordered(users, order), order
    assert await walked(client, f"/users?limit={limit}") == ordered(users, "id")


FILTERS: dict[str, Callable[[User], bool]] = {
    "username=mia": lambda user: user["username"] == "mia",
    "username=nobody": lambda _: False,
    "email=ZO%C3%8B@X": lambda user: user["email"] == "Zoë@x",
    "email=zoe@x": lambda user: user["email"] == "zoe@x",
    "email=SS@x": lambda user: user["email"] == "ss@x",
    "role=reader": lambda user: user["role"] == "reader",
    "is_active=false": lambda user: not user["is_active"],
    "role=admin&is_active=true": lambda user: user["role"] == "admin" and user["is_active"],
    "role=admin&username=a-b&email=zof@X": lambda user: user["username"] == "a-b",
}


@pytest.mark.parametrize("query", FILTERS)
async def test_a_filter_goes_with_every_order_and_is_counted(client: httpx.AsyncClient, query: str) -> None:
    wanted = [user for user in await crowd(client) if FILTERS[query](user)]
    for order in ORDERS:
        assert await walked(client, f"/users?{query}&order={order}&limit=2") == ordered(wanted, order), order
    assert (await client.get(f"/users?{query}&count=true&limit=1")).headers["x-total-count"] == str(len(wanted))


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("order=name", "/order"),
        ("order=password_hash", "/order"),
        ("order=email_folded", "/order"),
        ("username=ADA", "/username"),
        ("email=nobody", "/email"),
        ("role=owner", "/role"),
        ("is_active=1", "/is_active"),
        ("name=Ada", "/name"),
        ("password_hash=x", "/password_hash"),
        ("include=items", "/include"),
        ("limit=0", "/limit"),
    ],
)
async def test_a_wrong_parameter_is_refused(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    response = await client.get(f"/users?{query}")
    assert (code(response), pointers(response)) == ((400, "invalid-query"), [pointer])


async def test_a_walk_by_email_goes_on_where_a_change_of_case_has_happened(client: httpx.AsyncClient) -> None:
    users = ordered(await crowd(client), "email")
    first = await client.get("/users?order=email&limit=4")
    last = first.json()[-1]
    await client.patch(f"/users/{last['id']}", json={"email": last["email"].upper()})
    assert await walked(client, next_url(first) or "") == users[4:]
