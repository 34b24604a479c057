"""A bounded load of every verb, errors among them, so that there is something to see."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx

from tests.support.waiting import LIMIT_S

Call = tuple[str, str, dict[str, Any]]  # method, URL, and options of httpx
Habit = Callable[[httpx.AsyncClient], Awaitable[None]]

NAMES = itertools.count()
PATCH = {"Content-Type": "application/merge-patch+json"}
# Of every class of errors that clients make: body, query, path, method, media type, header, condition, time.
MISTAKES: Sequence[Call] = (
    ("POST", "/items", {"json": {"name": 7}}),
    ("POST", "/items", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/items", {"content": b"name", "headers": {"Content-Type": "text/plain"}}),
    ("GET", "/items?limit=0", {}),
    ("GET", "/items/9000000000", {}),
    ("GET", "/items", {"headers": {"Accept": "text/html"}}),
    ("GET", "/items", {"headers": {"X-Request-Timeout": "soon"}}),
    ("GET", "/users?limit=1000", {"headers": {"X-Request-Timeout": "0.001"}}),
    ("PUT", "/livez", {}),
    ("GET", "/nowhere", {}),
    ("BREW", "/items", {}),
)


async def visit(client: httpx.AsyncClient) -> None:
    """Make one request of each kind, on rows of this visit's own."""
    name = f"lamp-{next(NAMES)}"
    item = (await client.post("/items", json={"name": name, "price": 9.5})).json()
    path = f"/items/{item['id']}"
    batch = [{"name": f"{name}.{number}", "price": 1.0} for number in range(5)]
    ids = ",".join(str(row["id"]) for row in (await client.post("/items", json=batch)).json())
    requests: list[Call] = [
        *[("GET", path, {})] * 8,
        ("GET", "/items?limit=20", {}),
        ("GET", f"/items?name_prefix={name}", {}),
        ("GET", f"/items?ids={ids}", {}),
        ("PUT", path, {"json": {"name": name, "price": 8.5}}),
        ("PATCH", path, {"json": {"price": 7.5}, "headers": PATCH}),
        ("PATCH", path, {"json": {"price": 6.5}, "headers": {**PATCH, "If-Match": '"1-json"'}}),
        ("DELETE", f"/items?ids={ids}", {}),
        ("DELETE", path, {}),
        ("GET", "/readyz", {}),
    ]
    for method, url, options in requests:
        await client.request(method, url, **options)
    await own_a_user(client, name)


async def own_a_user(client: httpx.AsyncClient, name: str) -> None:
    """Make a user under a key, and ask again under the same, and without."""
    body = {"username": name, "email": f"{name}@example.org", "name": "Lamp"}
    keyed = {"Idempotency-Key": f'"{name}"'}
    created = await client.post("/users", json=body, headers=keyed)
    for headers in (keyed, {}):
        await client.post("/users", json=body, headers=headers)
    path = f"/users/{created.json()['id']}"
    await client.get(f"{path}?include=items")
    await client.delete(path)


async def err(client: httpx.AsyncClient) -> None:
    """Make every mistake once."""
    for method, url, options in MISTAKES:
        await client.request(method, url, **options)


async def look_up(client: httpx.AsyncClient) -> None:
    """Ask for several items at the same time, which some limit may not allow."""
    await asyncio.gather(*(client.get(f"/items/{id}") for id in range(1, 9)))


async def crowd(url: str, is_over: Callable[[], bool], *habits: Habit, clients: int = 8) -> None:
    """Let so many clients at a time do all of their habits, again and again, until it is over."""

    async def come_and_go() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as client:
            while not is_over():
                with suppress(httpx.TransportError):  # a worker may be killed meanwhile
                    for habit in habits:
                        await habit(client)

    await asyncio.gather(*(come_and_go() for _ in range(clients)))
