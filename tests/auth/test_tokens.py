"""Callers with stored tokens, on both databases: who they are, what they may do, and for how long."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from msgspec.structs import replace

from service.auth.token_text import new_token
from service.settings import Settings
from tests.support.issued import change_user, issue, last_uses, revoke, store_user
from tests.support.people import LAMP, People
from tests.support.responses import code, pointers, serving
from tests.support.tokens import bearer

pytestmark = pytest.mark.anyio

NEVER = 999_999


@pytest.mark.parametrize("id", [NEVER, 2**63 - 1])
async def test_a_row_that_is_not_there_is_a_404_for_a_writer(people: People, id: int) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        response = await people.send("writer", method, f"/items/{id}", None if method == "DELETE" else LAMP)
        assert code(response) == (404, "item-not-found")


async def test_a_batch_with_one_item_of_another_user_changes_nothing(people: People) -> None:
    own, foreign, nobodys = await people.item("writer"), await people.item("owner"), await people.item("admin")
    patch = [{"id": id, "price": 7} for id in (own, foreign, nobodys)]
    response = await people.send("writer", "PATCH", "/items", patch)
    assert code(response) == (403, "not-owner")
    assert pointers(response) == ["/1"]
    response = await people.send("writer", "DELETE", f"/items?ids={own},{foreign},{NEVER},{nobodys}")
    assert code(response) == (403, "not-owner")
    listed = (await people.send("reader", "GET", f"/items?ids={own},{foreign},{nobodys}")).json()
    assert [row["version"] for row in listed] == [1, 1, 1]
    changed = await people.send("writer", "PATCH", "/items", [patch[0], patch[2]])
    assert [row["owner_id"] for row in changed.json()] == [people.ids["writer"], None]  # which it does not take
    deleted = await people.send("writer", "DELETE", f"/items?ids={own},{NEVER},{nobodys}")
    assert deleted.json() == [own, nobodys]


async def test_a_refusal_of_another_users_item_is_repeated_under_its_key(people: People) -> None:
    id = await people.item("owner")
    headers = {**people.headers["writer"], "Idempotency-Key": "mine-1"}
    for method, body in (("PATCH", {"price": 2}), ("PUT", LAMP), ("DELETE", None)):
        first, again = [
            await people.client.request(method, f"/items/{id}", json=body, headers=headers) for _ in range(2)
        ]
        assert code(first) == code(again) == (403, "not-owner")
        assert again.headers["idempotency-replayed"] == "true"
    assert (await people.send("owner", "GET", f"/items/{id}")).json()["version"] == 1


@pytest.mark.parametrize("tag", ['"1-json"', '"9-json"', '"1-json", "9-json"', "*"])
async def test_no_version_lets_a_writer_change_another_users_item(people: People, tag: str) -> None:
    id = await people.item("owner")
    headers = {**people.headers["writer"], "If-Match": tag}
    for method, body in (("PATCH", {"price": 2}), ("PUT", LAMP), ("DELETE", None)):
        response = await people.client.request(method, f"/items/{id}", json=body, headers=headers)
        assert code(response) == (403, "not-owner")


async def test_an_item_that_was_given_to_nobody_is_everybodys_to_change(people: People) -> None:
    id = await people.item("owner")
    assert code(await people.send("writer", "PATCH", f"/items/{id}", {"price": 2})) == (403, "not-owner")
    assert (await people.send("owner", "PATCH", f"/items/{id}", {"owner_id": None})).status_code == 200
    taken = await people.send("writer", "PATCH", f"/items/{id}", {"owner_id": people.ids["writer"]})
    assert taken.json()["owner_id"] == people.ids["writer"]
    assert code(await people.send("owner", "PATCH", f"/items/{id}", {"price": 2})) == (403, "not-owner")


@pytest.mark.parametrize("settings", [{"auth_cache_ms": 1}], indirect=True)
async def test_a_token_that_is_revoked_and_a_user_who_is_changed_count_no_longer(people: People) -> None:
    async def status(name: str) -> int:
        return (await people.send(name, "POST", "/items", LAMP)).status_code

    async def becomes(name: str, expected: int) -> None:
        for _ in range(1000):
            if await status(name) == expected:
                return
        raise AssertionError(name)

    assert [await status(name) for name in ("owner", "writer", "admin", "reader")] == [201, 201, 201, 403]
    await revoke(people.database_url, people.headers["owner"]["Authorization"].removeprefix("Bearer "))
    await becomes("owner", 401)
    await change_user(people.database_url, people.ids["writer"], role="reader")
    await becomes("writer", 403)
    await change_user(people.database_url, people.ids["reader"], role="writer")
    await becomes("reader", 201)
    await change_user(people.database_url, people.ids["admin"], is_active=False)
    await becomes("admin", 401)


async def test_a_token_ends_with_its_user(people: People) -> None:
    response = await people.send("admin", "DELETE", f"/users/{people.ids['writer']}")
    assert response.status_code == 204
    assert await last_uses(people.database_url, people.ids["writer"]) == []
    assert code(await people.send("writer", "GET", "/items")) == (401, "invalid-token")


async def test_a_user_has_several_tokens_for_rotation(people: People) -> None:
    second = bearer(await issue(people.database_url, people.ids["owner"]))
    id = await people.item("owner")
    assert (await people.client.patch(f"/items/{id}", json={"price": 2}, headers=second)).status_code == 200


async def test_the_last_use_is_recorded_when_the_service_stops_and_by_no_request(settings: Settings) -> None:
    url = settings.database_url
    user_id = await store_user(url, "ada", "reader")
    used, _ = await issue(url, user_id), await issue(url, user_id)
    async with serving(replace(settings, auth=frozenset({"tokens"}))) as client:
        before = datetime.now(UTC)
        for _ in range(3):
            assert (await client.get("/items", headers=bearer(used))).status_code == 200
        assert await last_uses(url, user_id) == [None, None]
    first, second = await last_uses(url, user_id)
    assert second is None
    assert first is not None
    assert before <= first <= datetime.now(UTC)


async def test_with_authentication_off_no_token_is_looked_at(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "nonsense"}, bearer(new_token())):
        assert (await client.post("/items", json=LAMP, headers=headers)).json()["owner_id"] is None


@pytest.mark.parametrize("changed", ["revoked", "demoted", "deactivated"])
async def test_a_caller_who_is_shut_out_while_the_body_comes_writes_nothing(settings: Settings, changed: str) -> None:
    url = settings.database_url
    id = await store_user(url, "ada", "writer")
    token, other = await issue(url, id), await issue(url, await store_user(url, "root", "admin"))
    expected = {"revoked": 401, "demoted": 403, "deactivated": 401}[changed]

    async def body() -> AsyncIterator[bytes]:
        yield b'{"name": "lamp", '
        if changed == "revoked":
            await revoke(url, token)
        else:
            await change_user(url, id, **({"role": "reader"} if changed == "demoted" else {"is_active": False}))
        yield b'"price": 1}'

    async with serving(replace(settings, auth=frozenset({"tokens"}), auth_cache_ms=1)) as client:
        headers = {**bearer(token), "content-type": "application/json"}
        response = await client.post("/items", content=body(), headers=headers)
        assert response.status_code == expected
        assert (await client.get("/items", headers=bearer(other))).json() == []
