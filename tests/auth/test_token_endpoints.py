"""Tokens over HTTP, on both databases: issued, listed, used and revoked, by whom, and shown once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.support.audit import audit_log
from tests.support.documented import check_response
from tests.support.issued import last_uses
from tests.support.people import People, serving_people
from tests.support.responses import DECODE, ENCODE, MSGPACK, code, execute, next_url, pointers, serving
from tests.support.tokens import bearer
from tests.support.users import create_user

pytestmark = pytest.mark.anyio

SHOWN = {"id", "user_id", "name", "prefix", "created_at", "expires_at", "last_used_at"}
LATER = "2999-01-31T12:00:00.000000Z"
NEVER = 999_999
ROLES = ["reader", "writer", "admin"]


def url(people: People, name: str) -> str:
    """Return the path of somebody's tokens."""
    return f"/users/{people.ids[name]}/tokens"


async def issued(people: People, name: str, **headers: str) -> httpx.Response:
    """Issue a token as somebody of their own."""
    headers = {**people.headers[name], **headers}
    return await people.client.post(url(people, name), json={"name": "laptop"}, headers=headers)


async def listed(people: People, name: str) -> list[dict[str, Any]]:
    """Return the tokens of somebody."""
    response = await people.send("admin", "GET", url(people, name) + "?limit=1000")
    return list(response.json())


async def test_every_response_is_as_it_is_documented(people: People) -> None:
    people.client.event_hooks = {"request": [], "response": [check_response]}
    response = await issued(people, "writer")
    await people.send("writer", "GET", url(people, "writer"))
    for name in ("writer", "reader", "nobody", "writer", "admin"):
        await people.send(name, "DELETE", f"/tokens/{response.json()['id']}")
    for id in (NEVER, people.ids["writer"]):
        for method in ("GET", "POST"):
            await people.send("admin", method, f"/users/{id}/tokens", {"name": "x", "expires_at": "2020-01-01T00:00Z"})


@pytest.mark.parametrize("role", ROLES)
async def test_a_caller_issues_lists_uses_and_revokes_tokens_of_their_own(people: People, role: str) -> None:
    before = await listed(people, role)
    response = await issued(people, role)
    token = response.json()
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    assert not {"location", "etag"} & response.headers.keys()
    assert token.keys() == SHOWN | {"token"}
    assert token["token"].startswith(token["prefix"])
    assert (token["user_id"], token["name"], token["expires_at"]) == (people.ids[role], "laptop", None)
    row = {name: token[name] for name in SHOWN}
    own = await people.client.get(url(people, role), headers=bearer(token["token"]))
    assert own.json() == [*before, row]
    assert (await people.send(role, "DELETE", f"/tokens/{token['id']}")).status_code == 204
    assert await listed(people, role) == before


async def test_a_token_with_an_expiry_has_it_and_one_that_is_over_is_refused(people: People) -> None:
    body = {"name": "ci", "expires_at": "2999-01-31T13:00:00+01:00"}
    for media_type in ENCODE:
        headers = {**people.headers["admin"], "content-type": media_type, "accept": media_type}
        created = await people.client.post(url(people, "writer"), content=ENCODE[media_type](body), headers=headers)
        expires_at = DECODE[media_type](created.content)["expires_at"]
        assert expires_at == (datetime.fromisoformat(LATER) if media_type == MSGPACK else LATER)
    assert [token["expires_at"] for token in await listed(people, "writer")] == [None, LATER, LATER]
    over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    refused = await people.send("writer", "POST", url(people, "writer"), {"name": "ci", "expires_at": over})
    assert (code(refused), pointers(refused)) == ((422, "invalid-body"), ["/expires_at"])
    assert len(await listed(people, "writer")) == 3


@pytest.mark.parametrize("expires_at", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1969-01-01T00:00Z"])
async def test_a_time_of_no_year_of_ours_is_refused(people: People, expires_at: str) -> None:
    response = await people.send("writer", "POST", url(people, "writer"), {"name": "ci", "expires_at": expires_at})
    assert (code(response), pointers(response)) == ((422, "invalid-body"), ["/expires_at"])


async def test_a_token_may_expire_at_the_end_of_time(people: People) -> None:
    body = {"name": "ci", "expires_at": "9999-12-31T23:59:59.999999Z"}
    response = await people.send("writer", "POST", url(people, "writer"), body)
    used = await people.client.get(url(people, "writer"), headers=bearer(response.json()["token"]))
    assert used.json()[-1]["expires_at"] == body["expires_at"]
    assert (await people.send("writer", "DELETE", f"/tokens/{response.json()['id']}")).status_code == 204
    assert (await audit_log(people.database_url))[-1].changes["expires_at"] == [body["expires_at"], None]


async def test_the_tokens_of_a_user_are_listed_page_by_page_and_nobody_elses(people: People) -> None:
    ids = [await people.token("reader") for _ in range(3)]
    await people.token("writer")
    here: str | None = url(people, "reader") + "?limit=2&order=-id&count=true"
    found: list[int] = []
    while here:
        page = await people.client.get(here, headers=people.headers["reader"])
        found += [token["id"] for token in page.json()]
        assert page.headers.get("x-total-count", "4") == "4"
        here = next_url(page)
    assert found[:3] == ids[::-1]
    assert len(found) == 4  # with the one that the reader came with
    for query in ("user_id=1", "ids=1", "order=name", "after=x"):
        assert (await people.send("reader", "GET", f"{url(people, 'reader')}?{query}")).status_code == 400


async def test_only_an_admin_is_told_that_there_is_no_such_user(people: People) -> None:
    for method in ("GET", "POST"):
        path = f"/users/{NEVER}/tokens"
        assert code(await people.send("admin", method, path, {"name": "x"})) == (404, "user-not-found")
        for id in (NEVER, people.ids["admin"]):
            response = await people.send("writer", method, f"/users/{id}/tokens", {"name": "x"})
            assert code(response) == (403, "forbidden")


@pytest.mark.parametrize("role", ["reader", "writer"])
async def test_a_foreign_token_and_one_that_is_not_there_look_the_same(people: People, role: str) -> None:
    foreign = await people.token("owner")
    expected = None
    for key in ({}, {"Idempotency-Key": "k-1"}):
        for id in (foreign, NEVER):
            headers = {**people.headers[role], **key}
            responses = [await people.client.delete(f"/tokens/{id}", headers=headers) for _ in range(2)]
            assert [code(response) for response in responses] == [(404, "token-not-found")] * 2
            problem = {**responses[1].json(), "request_id": ""}
            assert problem["detail"] == f"No token has the id {id}."
            problem.pop("detail")
            assert problem == (expected or problem)
            expected = problem
    assert foreign in [token["id"] for token in await listed(people, "owner")]
    assert (await people.send("admin", "DELETE", f"/tokens/{foreign}")).status_code == 204


async def test_a_revoked_token_is_refused_at_once_by_the_worker_that_revoked_it(people: People) -> None:
    token = (await issued(people, "writer")).json()
    headers = bearer(token["token"])
    assert (await people.client.get("/items", headers=headers)).status_code == 200
    assert (await people.client.delete(f"/tokens/{token['id']}", headers=headers)).status_code == 204
    assert code(await people.client.get("/items", headers=headers)) == (401, "invalid-token")
    assert (await people.send("writer", "GET", "/items")).status_code == 200


@pytest.mark.parametrize("settings", [{"auth_cache_ms": 1}], indirect=True)
async def test_a_revoked_token_is_refused_by_another_worker_when_its_cache_is_over(
    settings: Settings, people: People
) -> None:
    token = (await issued(people, "writer")).json()
    async with serving(people.settings(settings)) as other:
        assert (await other.get("/items", headers=bearer(token["token"]))).status_code == 200
        await people.send("writer", "DELETE", f"/tokens/{token['id']}")
        response = await other.get("/items", headers=bearer(token["token"]))
        while response.status_code == 200:  # for a millisecond
            response = await other.get("/items", headers=bearer(token["token"]))
        assert code(response) == (401, "invalid-token")


async def test_a_repeat_under_a_key_has_the_row_without_the_text_which_is_stored_nowhere(people: People) -> None:
    before = await listed(people, "writer")
    first, again = [await issued(people, "writer", **{"Idempotency-Key": "k-1"}) for _ in range(2)]
    text = first.json()["token"]
    assert again.json() == {**first.json(), "token": None}
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.headers["cache-control"] == "no-store"
    assert "idempotency-replayed" not in first.headers
    assert len(await listed(people, "writer")) == len(before) + 1
    assert (await people.client.get("/items", headers=bearer(text))).status_code == 200
    [(response,)] = await execute(people.database_url, "SELECT response FROM idempotency_keys")
    stored = bytes(response)
    assert first.json()["prefix"].encode() in stored
    assert text.encode() not in stored
    rows = await execute(people.database_url, "SELECT * FROM tokens")
    assert text not in repr(rows)


async def test_a_repeat_has_the_first_response_although_its_time_is_over_and_a_refusal_is_repeated(
    people: People,
) -> None:
    async def send(key: str, expires_at: datetime) -> httpx.Response:
        body = {"name": "short", "expires_at": expires_at.isoformat()}
        headers = {**people.headers["writer"], "Idempotency-Key": key}
        return await people.client.post(url(people, "writer"), json=body, headers=headers)

    soon = datetime.now(UTC) + timedelta(milliseconds=200)
    first = await send("k-1", soon)
    while first.status_code == 422:  # a machine that is busy
        soon = datetime.now(UTC) + 2 * (soon - datetime.now(UTC) + timedelta(seconds=1))
        first = await send(f"k-{soon}", soon)
    while datetime.now(UTC) <= soon:
        await people.send("nobody", "GET", "/livez")
    key = first.request.headers["idempotency-key"]
    again = await send(key, soon)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    refused = [await send("k-over", soon) for _ in range(2)]
    assert [code(response) for response in refused] == [(422, "invalid-body")] * 2
    assert refused[1].headers["idempotency-replayed"] == "true"


async def test_the_last_use_of_a_token_is_shown(settings: Settings) -> None:
    async with serving_people(settings) as people:
        token = (await issued(people, "reader")).json()
        await people.client.get("/items", headers=bearer(token["token"]))
    found = await last_uses(settings.database_url, people.ids["reader"])
    async with serving(people.settings(settings)) as client:
        shown = (await client.get(url(people, "reader"), headers=people.headers["admin"])).json()
    assert [datetime.fromisoformat(row["last_used_at"]) for row in shown] == found


async def test_deleting_a_user_revokes_the_tokens(people: People) -> None:
    texts = [(await issued(people, "reader")).json()["token"] for _ in range(2)]
    assert (await people.send("admin", "DELETE", f"/users/{people.ids['reader']}")).status_code == 204
    rows = f"SELECT count(*) FROM tokens WHERE user_id = {people.ids['reader']}"  # noqa: S608 - a number
    assert await execute(people.database_url, rows) == [(0,)]
    for text in texts:  # which no cache has
        assert code(await people.client.get("/items", headers=bearer(text))) == (401, "invalid-token")


async def test_without_authentication_whoever_reaches_the_service_manages_tokens(client: httpx.AsyncClient) -> None:
    user = await create_user(client)
    here = f"/users/{user['id']}/tokens"
    token = (await client.post(here, json={"name": "first"})).json()
    shown = (await client.get(here)).json()
    assert shown == [{name: token[name] for name in SHOWN}]
    assert (await client.delete(f"/tokens/{token['id']}")).status_code == 204
    assert code(await client.delete(f"/tokens/{token['id']}")) == (404, "token-not-found")
    assert (await client.get(here)).json() == []
    assert code(await client.get(f"/users/{NEVER}/tokens")) == (404, "user-not-found")
