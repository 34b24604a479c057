"""Every operation for every kind of caller, on both databases: its status, and that a refused one changed nothing."""

from itertools import count
from typing import Any, NamedTuple

import pytest

from service.http.operation import Resource
from service.routes import ROUTES
from tests.support.people import LAMP, People

pytestmark = pytest.mark.anyio

REFUSED = [
    *("nobody", "malformed", "basic", "mistyped", "expired", "revoked", "unknown", "inactive"),
    *("jwt issuer", "jwt audience", "jwt none", "jwt secret", "jwt algorithm", "jwt key", "jwt signature"),
    *("jwt expired", "jwt early", "jwt endless", "jwt inactive", "jwt nobody"),
]
BY_PASSWORD = ("POST", "/tokens")  # whose callers have no token yet: each of them here is a 401
ADMITTED = ["reader", "writer", "owner", "admin"]  # "owner" owns the item, "writer" another one
WITH_JWT = [f"jwt {name}" for name in ADMITTED]
OPEN = {"/livez", "/readyz", "/openapi.json"}


class Case(NamedTuple):
    """A request of an operation, and its status for a reader, for writers without and with the item, and for an admin.

    `{item}` is an item of the owner, `{token}` their token, `{user}` another user; in a body "#" is the id, "~" what no
    other user has.
    """

    url: str
    statuses: tuple[int, int, int, int]
    body: Any = None


ADA = {"username": "~", "email": "~@example.org", "name": "Ada"}
NO_USERS = (403, 403, 403)
CASES = {
    ("GET", "/items/{id}"): Case("/items/{item}", (200, 200, 200, 200)),
    ("PUT", "/items/{id}"): Case("/items/{item}", (403, 403, 200, 200), LAMP),
    ("PATCH", "/items/{id}"): Case("/items/{item}", (403, 403, 200, 200), {"price": 2}),
    ("DELETE", "/items/{id}"): Case("/items/{item}", (403, 403, 204, 204)),
    ("GET", "/items"): Case("/items", (200, 200, 200, 200)),
    ("POST", "/items"): Case("/items", (403, 201, 201, 201), LAMP),
    ("PATCH", "/items"): Case("/items", (403, 403, 200, 200), [{"id": "#", "price": 2}]),
    ("DELETE", "/items"): Case("/items?ids={item}", (403, 403, 200, 200)),
    ("GET", "/users/{id}"): Case("/users/{user}", (*NO_USERS, 200)),
    ("PUT", "/users/{id}"): Case("/users/{user}", (*NO_USERS, 200), ADA),
    ("PATCH", "/users/{id}"): Case("/users/{user}", (*NO_USERS, 200), {"name": "Ada"}),
    ("DELETE", "/users/{id}"): Case("/users/{user}", (*NO_USERS, 204)),
    ("GET", "/users"): Case("/users", (*NO_USERS, 200)),
    ("POST", "/users"): Case("/users", (*NO_USERS, 201), ADA),
    ("PATCH", "/users"): Case("/users", (*NO_USERS, 200), [{"id": "#", "name": "Ada"}]),
    ("DELETE", "/users"): Case("/users?ids={user}", (*NO_USERS, 200)),
    ("GET", "/users/{id}/tokens"): Case("/users/{user}/tokens", (*NO_USERS, 200)),
    ("POST", "/users/{id}/tokens"): Case("/users/{user}/tokens", (*NO_USERS, 201), {"name": "laptop"}),
    ("DELETE", "/tokens/{id}"): Case("/tokens/{token}", (404, 404, 204, 204)),
    BY_PASSWORD: Case("/tokens", (401, 401, 401, 401)),
}
OPERATIONS = [
    (method, str(route.path))
    for route in ROUTES
    if isinstance(route.endpoint, Resource)
    for method in route.endpoint.operations
]
numbers = count(1)


def test_every_operation_is_in_the_matrix() -> None:
    assert {(method, path) for method, path in OPERATIONS if path not in OPEN} == CASES.keys()


def filled(value: Any, id: int, unique: str) -> Any:
    """Return a body with an id and with what no other user has."""
    if isinstance(value, list):
        return [filled(member, id, unique) for member in value]
    if isinstance(value, dict):
        return {name: filled(member, id, unique) for name, member in value.items()}
    return id if value == "#" else value.replace("~", unique) if isinstance(value, str) else value


async def status(people: People, name: str, method: str, case: Case) -> int:
    """Return the status of a case for somebody; for a refusal, check that it changed nothing."""
    unique = f"user-{next(numbers)}"
    made = await people.send("admin", "POST", "/users", filled(ADA, 0, unique))
    ids = {"item": await people.item("owner"), "user": int(made.json()["id"]), "token": await people.token("owner")}
    of = "item" if case.url.startswith("/items") else "user"
    before = await seen(people, f"/{of}s/{ids[of]}", f"/{of}s?count=true&limit=1")
    body = filled(case.body, ids[of], f"new-{unique}")
    response = await people.send(name, method, case.url.format(**ids), body)
    if response.status_code >= 400:
        assert await seen(people, f"/{of}s/{ids[of]}", f"/{of}s?count=true&limit=1") == before
    if response.status_code == 401:
        scheme = "Basic" if (method, case.url) == BY_PASSWORD else "Bearer"
        assert response.headers["www-authenticate"].startswith(f'{scheme} realm="items"')
    return response.status_code


async def seen(people: People, path: str, listed: str) -> tuple[Any, str, list[int]]:
    """Return what an admin sees: a row, how many of its kind there are, and every token."""
    row = (await people.send("admin", "GET", path)).json()
    count = (await people.send("admin", "GET", listed)).headers["x-total-count"]
    tokens = [await people.send("admin", "GET", f"/users/{id}/tokens?limit=1000") for id in people.ids.values()]
    return row, count, [token["id"] for response in tokens for token in response.json()]


@pytest.mark.parametrize(("method", "path"), CASES)
async def test_an_operation_has_its_status_for_every_caller(people: People, method: str, path: str) -> None:
    case = CASES[method, path]
    expected = dict.fromkeys(REFUSED, 401)
    for names in (ADMITTED, WITH_JWT):
        expected |= dict(zip(names, case.statuses, strict=True))
    assert {name: await status(people, name, method, case) for name in expected} == expected
    if method == "GET":
        assert {name: await status(people, name, "HEAD", case) for name in expected} == expected


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_what_is_open_is_open_to_every_caller(people: People, path: str) -> None:
    assert {(await people.send(name, "GET", path)).status_code for name in [*REFUSED, *ADMITTED, *WITH_JWT]} == {200}
