"""Owners: whose a row is, for a writer, who writes its own rows and those of nobody, and for an admin."""

from typing import Any

import httpx
import pytest

from db.errors import NotOwner
from db.tables.call import Call
from db.tables.store import Store
from service.http.operation import Operation
from service.http.problems import render
from service.resources import items
from tests.support.responses import MSGPACK, code, pointers
from tests.support.tokens import MemoryTokens, bearer

pytestmark = pytest.mark.anyio

LAMP = {"name": "lamp", "price": 1.0}
ADA, BOB = 1, 2


@pytest.fixture
def ada(tokens: MemoryTokens, admin: dict[str, str]) -> dict[str, str]:
    """Return the headers of a writer, whose id is 1."""
    assert admin
    return bearer(tokens.issue(ADA, "writer"))


async def created(service: httpx.AsyncClient, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    response = await service.post("/items", json={**LAMP, **fields}, headers=headers)
    assert response.status_code == 201, response.content
    return dict(response.json())


@pytest.mark.parametrize(("sent", "owner"), [({}, ADA), ({"owner_id": None}, None), ({"owner_id": ADA}, ADA)])
async def test_what_a_writer_creates_is_its_own_unless_it_says_nobody(
    service: httpx.AsyncClient, ada: dict[str, str], sent: dict[str, Any], owner: int | None
) -> None:
    assert (await created(service, ada, **sent))["owner_id"] == owner
    response = await service.post("/items", json=[{**LAMP, **sent}, LAMP], headers=ada)
    assert [row["owner_id"] for row in response.json()] == [owner, ADA]
    response = await service.post("/items", json={**LAMP, **sent}, headers={**ada, "Accept": MSGPACK})
    assert response.status_code == 201


async def test_what_an_admin_creates_is_nobodys_unless_it_says_whose(
    service: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    assert (await created(service, admin))["owner_id"] is None
    assert (await created(service, admin, owner_id=BOB))["owner_id"] == BOB
    assert code(await service.post("/items", json={**LAMP, "owner_id": 777}, headers=admin)) == (
        422,
        "unknown-reference",
    )


@pytest.mark.parametrize("other", [BOB, 777])
async def test_a_writer_creates_nothing_for_another_user_who_exists_or_does_not(
    service: httpx.AsyncClient, ada: dict[str, str], other: int
) -> None:
    response = await service.post("/items", json={**LAMP, "owner_id": other}, headers=ada)
    assert code(response) == (403, "not-owner")
    assert pointers(response) == ["/owner_id"]
    batch = [LAMP, {**LAMP, "owner_id": other}, {**LAMP, "owner_id": ADA}, {**LAMP, "owner_id": other}]
    response = await service.post("/items", json=batch, headers=ada)
    assert code(response) == (403, "not-owner")
    assert pointers(response) == ["/1/owner_id", "/3/owner_id"]
    assert (await service.get("/items", headers=ada)).json() == []


async def test_a_writer_gives_its_items_to_nobody_and_to_no_other_user(
    service: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    first, second = [await created(service, ada) for _ in range(2)]
    url = f"/items/{first['id']}"
    for body in ({"owner_id": BOB}, {"owner_id": 777}):
        for method in ("PATCH", "PUT"):
            response = await service.request(method, url, json={**LAMP, **body}, headers=ada)
            assert code(response) == (403, "not-owner")
            assert pointers(response) == ["/owner_id"]
    batch = [{"id": second["id"], "name": "desk"}, {"id": first["id"], "owner_id": BOB}]
    response = await service.patch("/items", json=batch, headers=ada)
    assert code(response) == (403, "not-owner")
    assert pointers(response) == ["/1/owner_id"]
    assert [row["version"] for row in (await service.get("/items", headers=ada)).json()] == [1, 1]
    assert (await service.patch(url, json={"owner_id": None}, headers=ada)).json()["owner_id"] is None
    assert (await service.patch(url, json={"owner_id": ADA}, headers=ada)).json()["owner_id"] == ADA
    response = await service.patch("/items", json=[{"id": first["id"], "owner_id": None}], headers=ada)
    assert response.json()[0]["owner_id"] is None


async def test_a_writers_replacement_without_an_owner_keeps_the_one_there_is(
    service: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    own, nobodys = await created(service, ada, in_stock=False), await created(service, ada, owner_id=None)
    for row, owner in ((own, ADA), (nobodys, None)):
        url = f"/items/{row['id']}"
        replaced = (await service.put(url, json={"name": "desk", "price": 2}, headers=ada)).json()
        assert replaced["owner_id"] == owner
        assert (replaced["name"], replaced["in_stock"], replaced["version"]) == ("desk", True, 2)
        replaced = (await service.put(url, json={**LAMP, "owner_id": None}, headers=ada)).json()
        assert replaced["owner_id"] is None


async def test_an_admins_replacement_without_an_owner_makes_it_nobodys(
    service: httpx.AsyncClient, ada: dict[str, str], admin: dict[str, str]
) -> None:
    item = await created(service, ada)
    assert (await service.put(f"/items/{item['id']}", json=LAMP, headers=admin)).json()["owner_id"] is None


async def test_a_writers_body_has_the_same_errors_as_any_other(
    service: httpx.AsyncClient, ada: dict[str, str], admin: dict[str, str]
) -> None:
    for body in ({"name": "", "owner_id": "bob", "colour": "red"}, [LAMP, {**LAMP, "owner_id": 0}], 7, []):
        first, second = [await service.post("/items", json=body, headers=headers) for headers in (ada, admin)]
        assert code(first) == code(second) == (422, "invalid-body")
        assert first.json()["errors"] == second.json()["errors"]


async def test_under_a_key_an_owner_that_is_absent_and_null_are_two_requests_of_a_writer(
    service: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    headers = {**ada, "Idempotency-Key": "lamp-1"}
    first = await service.post("/items", json=LAMP, headers=headers)
    again = await service.post("/items", json=LAMP, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert code(await service.post("/items", json={**LAMP, "owner_id": None}, headers=headers)) == (
        422,
        "idempotency-key-reused",
    )


WRITES: dict[str, tuple[str, str, Any]] = {
    "create": ("POST", "/items", LAMP),
    "update": ("PATCH", "/items/1", {"price": 2}),
    "delete": ("DELETE", "/items/1", None),
    "create_many": ("POST", "/items", [LAMP]),
    "update_many": ("PATCH", "/items", [{"id": 1, "price": 2}]),
    "delete_many": ("DELETE", "/items?ids=1", None),
}


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_call_of_a_writers_write_says_whose_rows_may_be_written(
    service: httpx.AsyncClient,
    ada: dict[str, str],
    admin: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    found: list[int | None] = []
    run = getattr(Store, verb)

    def note(store: Store[Any], call: Call, *arguments: Any) -> Any:
        found.append(call.owner)
        return run(store, call, *arguments)

    await created(service, ada)
    monkeypatch.setattr(Store, verb, note)
    method, url, body = WRITES[verb]
    for headers in ({}, {"Idempotency-Key": "one"}, {"X-Request-Timeout": "60"}):
        for sender in (ada, admin):
            response = await service.request(method, url, json=body, headers={**headers, **sender})
            assert response.status_code in {200, 201, 204, 404}
    assert found == [ADA, None] * 3


@pytest.mark.parametrize(
    ("error", "places", "detail"),
    [
        (NotOwner([7], "item"), [], "The item with the id 7 belongs to another user."),
        (NotOwner([7, 8], "item", [(0,), (2,)]), ["/0", "/2"], "The item with the id 7, 8 belongs to another user."),
    ],
)
def test_a_row_of_another_user_is_a_403_with_a_pointer_in_a_batch(
    error: NotOwner, places: list[str], detail: str
) -> None:
    response = httpx.Response(403, content=render(error, "x").body)
    problem = response.json()
    assert (problem["status"], problem["code"], problem["detail"]) == (403, "not-owner", detail)
    assert [each["pointer"] for each in problem["errors"]] == places


def test_an_operation_of_its_own_that_forgets_about_owners_is_refused_at_the_start() -> None:
    async def delete(context: object, call: Call, id: int) -> None:
        """Delete."""

    with pytest.raises(TypeError, match="DELETE of one item needs for_owner"):
        items.COLLECTION.routes(DELETE=Operation(delete, scope="items:write"))
