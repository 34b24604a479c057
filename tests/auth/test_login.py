"""Signing in with a name and a password, on both databases: who gets a token, and that refusals look alike."""

import unicodedata
from base64 import b64encode
from datetime import datetime
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from msgspec.structs import replace

from db.errors import Unavailable
from db.resources.users import Users
from db.tables.call import Call
from service.passwords import MEMORY_KIB, TIME_COST
from service.settings import Settings
from tests.support.documented import check_response
from tests.support.hashers import Verifications, watched
from tests.support.issued import change_user
from tests.support.people import People
from tests.support.responses import DECODE, ENCODE, MSGPACK, code, execute, serving
from tests.support.token_calls import PASSWORD, log_in, user_with_password
from tests.support.tokens import bearer
from tests.support.users import create_user

pytestmark = pytest.mark.anyio

CHALLENGE = 'Basic realm="items", charset="UTF-8"'
REFUSED = (401, "invalid-credentials")
PARAMETERS = f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p=1$"
HASH = "SELECT password_hash, version FROM users WHERE username = 'ada'"


@pytest.fixture
async def service(people: People) -> httpx.AsyncClient:
    """Return a client without a token, of a service with authentication and the user ada."""
    people.client.headers.update(people.headers["admin"])
    await user_with_password(people.client)
    await user_with_password(people.client, "gone", is_active=False)
    await create_user(people.client, "none")
    del people.client.headers["Authorization"]
    people.client.event_hooks = {"request": [], "response": [check_response]}
    return people.client


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    """Watch how passwords are verified."""
    return watched(monkeypatch)


@pytest.mark.parametrize("media_type", ENCODE)
@pytest.mark.parametrize("name", ["ada", "ada@example.org", "ADA@Example.org"])
async def test_a_name_or_an_email_and_the_password_give_a_token_for_an_hour(
    service: httpx.AsyncClient, name: str, media_type: str
) -> None:
    response = await log_in(service, name, accept=media_type)
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    token = DECODE[media_type](response.content)
    created_at, expires_at = token["created_at"], token["expires_at"]
    if media_type != MSGPACK:
        created_at, expires_at = map(datetime.fromisoformat, (created_at, expires_at))
    assert abs((expires_at - created_at).total_seconds() - 3600) < 600  # by two clocks
    own = await service.get(f"/users/{token['user_id']}/tokens", headers=bearer(token["token"]))
    assert [(row["id"], row["name"]) for row in own.json()] == [(token["id"], "log-in")]


async def test_whoever_may_not_come_in_is_told_the_same_after_one_hash_of_the_same_cost(
    service: httpx.AsyncClient, people: People, verifications: Verifications
) -> None:
    broken = await store_hash(people, "no hash at all")
    cases = [("ada", "wrong-horse"), ("nobody", PASSWORD), ("none", PASSWORD), ("gone", PASSWORD), ("gone", "wrong")]
    cases += [("x" * 300, PASSWORD), ("a\0da", PASSWORD), ("", ""), (broken, PASSWORD), ("ada", "")]
    responses = [await log_in(service, *case) for case in cases]
    assert {code(response) for response in responses} == {REFUSED}
    assert {response.headers["www-authenticate"] for response in responses} == {CHALLENGE}
    assert len({response.content.replace(response.json()["request_id"].encode(), b"") for response in responses}) == 1
    hashed = [one for one in verifications.hashes if one != "no hash at all"]  # which is none, and takes no time
    assert len(hashed) == len(cases)
    assert all(one.startswith(PARAMETERS) for one in hashed)


async def store_hash(people: People, stored: str) -> str:
    """Store what stands for a user's password, and return the name."""
    await change_user(people.database_url, people.ids["reader"], password_hash=stored)
    return "reader"


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Basic", "Basic ", "Basic !!!", "Basic YWRh", "Basic " + b64encode(b"ada:\xff").decode()),
        *("Bearer itm_x", "Digest username=ada", "Basic YWRhOng=, Basic YWRhOng=", "Basic " + 9000 * "YWRh"),
        "Basic YWRhOng",  # without its padding
    ],
)
async def test_a_header_without_a_name_and_a_password_is_a_401_without_a_hash(
    service: httpx.AsyncClient, verifications: Verifications, authorization: str
) -> None:
    response = await service.post("/tokens", headers={"Authorization": authorization})
    assert code(response) == REFUSED
    assert response.headers["www-authenticate"] == CHALLENGE
    assert not verifications.hashes


async def test_a_401_comes_before_any_other_mistake(service: httpx.AsyncClient) -> None:
    assert code(await service.post("/tokens")) == REFUSED
    for url, headers in (("/tokens?colour=red", {}), ("/tokens", {"Accept": "text/html"})):
        assert code(await service.post(url, headers=headers)) == REFUSED
        right = await service.post(url, headers=headers, auth=httpx.BasicAuth("ada", PASSWORD))
        assert right.status_code in {400, 406}


async def test_a_password_is_the_same_in_either_form_of_its_letters(service: httpx.AsyncClient, people: People) -> None:
    for stored, sent in (("NFD", "NFC"), ("NFC", "NFD")):
        password = {form: unicodedata.normalize(form, "Schlüsselwört: ä:") for form in ("NFC", "NFD")}
        headers = people.headers["admin"]
        url = f"/users/{people.ids['writer']}"
        await service.patch(url, json={"password": password[stored]}, headers=headers)
        basic = b64encode(f"writer:{password[sent]}".encode()).decode()
        response = await service.post("/tokens", headers={"Authorization": f"bAsIc   {basic}"})
        assert response.status_code == 201


async def test_a_changed_or_removed_password_counts_at_once(service: httpx.AsyncClient, people: People) -> None:
    found = await service.get("/users?username=ada", headers=people.headers["admin"])
    url = f"/users/{found.json()[0]['id']}"
    for password, before, after in (("another-horse", 401, 201), (None, 401, 401)):
        await service.patch(url, json={"password": password}, headers=people.headers["admin"])
        assert (await log_in(service)).status_code == before
        assert (await log_in(service, password="another-horse")).status_code == after


@pytest.fixture
async def weak(service: httpx.AsyncClient, people: People) -> str:  # noqa: ARG001 - it has stored the user
    """Store the password of ada with weaker parameters than today's."""
    weak = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    await execute(people.database_url, f"UPDATE users SET password_hash = '{weak}' WHERE username = 'ada'")  # noqa: S608
    return weak


async def test_a_password_is_hashed_anew_when_the_parameters_were_raised(
    service: httpx.AsyncClient, people: People, weak: str
) -> None:
    [(_, version)] = await execute(people.database_url, HASH)
    assert code(await log_in(service, password="wrong")) == REFUSED
    assert await execute(people.database_url, HASH) == [(weak, version)]
    for _ in range(2):
        assert (await log_in(service)).status_code == 201
        [(found, after)] = await execute(people.database_url, HASH)
        assert found.startswith(PARAMETERS)
        assert after == version  # to clients nothing has changed


async def test_a_password_that_was_changed_meanwhile_is_not_hashed_anew(
    people: People, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehash, new = Users.rehash, weak[:-4] + "AAAA"

    async def late(users: Users[Any], call: Call, *arguments: Any) -> None:
        await execute(people.database_url, f"UPDATE users SET password_hash = '{new}' WHERE username = 'ada'")  # noqa: S608
        await rehash(users, call, *arguments)

    monkeypatch.setattr(Users, "rehash", late)
    async with serving(people.settings(Settings(database_url=people.database_url))) as client:
        assert (await log_in(client)).status_code == 201
    assert [stored for stored, _ in await execute(people.database_url, HASH)] == [new]


async def test_a_log_in_does_not_depend_on_the_hash_that_could_not_be_stored(
    people: People, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(Users, "rehash", fail)
    async with serving(people.settings(Settings(database_url=people.database_url))) as client:
        assert (await log_in(client)).status_code == 201
    assert [stored for stored, _ in await execute(people.database_url, HASH)] == [weak]


async def test_users_do_not_share_idempotency_keys_before_they_have_a_token(
    service: httpx.AsyncClient, people: People
) -> None:
    headers = people.headers["admin"]
    await service.patch(f"/users/{people.ids['writer']}", json={"password": PASSWORD}, headers=headers)
    key = {"idempotency-key": "the-same"}
    first, other, again = [await log_in(service, name, **key) for name in ("ada", "writer", "ada")]
    assert first.json()["user_id"] != other.json()["user_id"] == people.ids["writer"]
    assert other.json()["token"]
    assert again.json() == {**first.json(), "token": None}
    assert again.headers["idempotency-replayed"] == "true"
    assert code(await log_in(service, password="wrong", **key)) == REFUSED


async def test_a_token_lives_as_long_as_the_service_is_set(settings: Settings) -> None:
    async with serving(replace(settings, login_token_lifetime_s=60)) as client:
        await user_with_password(client)
        token = (await log_in(client)).json()
    times = [datetime.fromisoformat(token[name]) for name in ("created_at", "expires_at")]
    assert (times[1] - times[0]).total_seconds() < 600


async def test_where_tokens_are_not_accepted_none_is_issued_for_a_password(settings: Settings) -> None:
    others: Any = frozenset({"jwt"})
    async with serving(settings) as client:
        await user_with_password(client)
    async with serving(replace(settings, auth=others)) as client:
        client.event_hooks = {"request": [], "response": [check_response]}
        assert code(await log_in(client)) == (404, "no-such-path")
