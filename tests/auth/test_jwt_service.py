"""Callers with JWTs of an issuer on loopback, on both databases: who they are, what they may do, and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from service.auth import jwks
from service.settings import Settings
from tests.support.issued import change_user, issue, last_uses, store_user
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, SigningKey, claims_of, issuing, signed, signing_key
from tests.support.responses import code, pointers, problem, serving
from tests.support.tokens import bearer

pytestmark = pytest.mark.anyio

LAMP = {"name": "lamp", "price": 1.0}


def with_jwts(settings: Settings, issuer: Issuer, **others: Any) -> Settings:
    """Return settings of a service that lets callers of the issuer in."""
    jwt = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": issuer.url}
    return replace(settings, **{"auth": frozenset({"jwt"}), **jwt, **others})


@asynccontextmanager
async def serving_jwts(settings: Settings, issuer: Issuer, **others: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run a service that has the writers ada and bob, and the admin root."""
    for name, role in {"ada": "writer", "bob": "writer", "root": "admin"}.items():
        await store_user(settings.database_url, name, role)
    async with serving(with_jwts(settings, issuer, **others)) as client:
        yield client


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Return an issuer."""
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def service(settings: Settings, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client without a token."""
    async with serving_jwts(settings, issuer) as client:
        yield client


def of(subject: str, key: SigningKey | None = None, **claims: Any) -> dict[str, str]:
    """Return the headers of a caller."""
    return bearer(signed(claims_of(subject, **claims), key))


async def test_a_caller_is_the_user_whom_the_token_names(service: httpx.AsyncClient) -> None:
    made = await service.post("/items", json=LAMP, headers=of("ada"))
    assert made.status_code == 201
    assert made.json()["owner_id"] == 1
    url = f"/items/{made.json()['id']}"
    assert code(await service.patch(url, json={"price": 2}, headers=of("bob"))) == (403, "not-owner")
    assert (await service.patch(url, json={"price": 2}, headers=of("ada@example.org"))).status_code == 200
    assert (await service.patch(url, json={"price": 3}, headers=of("root"))).status_code == 200
    assert code(await service.get("/users", headers=of("ada"))) == (403, "forbidden")


async def test_idempotency_keys_are_those_of_the_user_however_the_caller_came_in(
    settings: Settings, issuer: Issuer
) -> None:
    async with serving_jwts(settings, issuer, auth=frozenset({"jwt", "tokens"})) as service:
        token = await issue(settings.database_url, 1)
        key = {"Idempotency-Key": "one"}
        first = await service.post("/items", json=LAMP, headers=of("ada") | key)
        again = await service.post("/items", json=LAMP, headers=bearer(token) | key)
        other = await service.post("/items", json=LAMP, headers=of("bob") | key)
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        assert other.json()["id"] != first.json()["id"]
    assert [time is not None for time in await last_uses(settings.database_url, 1)] == [True]


async def test_a_stored_token_is_refused_where_only_jwts_come_in_and_the_other_way_round(
    service: httpx.AsyncClient, settings: Settings
) -> None:
    token = await issue(settings.database_url, 1)
    assert code(await service.get("/items", headers=bearer(token))) == (401, "invalid-token")
    async with serving(replace(settings, auth=frozenset({"tokens"}))) as tokens_only:
        assert (await tokens_only.get("/items", headers=bearer(token))).status_code == 200
        assert code(await tokens_only.get("/items", headers=of("ada"))) == (401, "invalid-token")


@pytest.mark.parametrize("settings", [{"auth_cache_ms": 1}], indirect=True)
async def test_a_user_who_is_deactivated_demoted_or_deleted_is_so_for_tokens_too(
    service: httpx.AsyncClient, settings: Settings
) -> None:
    async def becomes(name: str, expected: int) -> None:
        for _ in range(1000):
            if (await service.post("/items", json=LAMP, headers=headers[name])).status_code == expected:
                return
        raise AssertionError(name)

    headers = {name: of(name) for name in ("ada", "bob", "root")}
    for name in headers:
        await becomes(name, 201)
    await change_user(settings.database_url, 1, is_active=False)
    await becomes("ada", 401)
    await change_user(settings.database_url, 2, role="reader")
    await becomes("bob", 403)
    await change_user(settings.database_url, 3, username="toor", email_folded="toor@example.org")
    await becomes("root", 401)
    await change_user(settings.database_url, 1, is_active=True)
    await becomes("ada", 201)


async def test_an_email_is_found_in_any_case_and_only_where_it_may_count(settings: Settings, issuer: Issuer) -> None:
    async with serving_jwts(settings, issuer, jwt_subject_claim="email") as service:

        async def status(**claims: Any) -> int:
            return (await service.get("/items", headers=of("b3d0", **claims))).status_code

        assert await status(email="Ada@Example.org", email_verified=True) == 200
        assert await status(email="Ada@Example.org", email_verified=False) == 401
        assert await status(email="Ada@Example.org") == 401
        assert await status(email="eve@example.org", email_verified=True) == 401
        assert await status() == 401


async def test_a_token_is_limited_to_the_scopes_of_its_claim(settings: Settings, issuer: Issuer) -> None:
    async with serving_jwts(settings, issuer, jwt_scope_claim="scope") as service:
        reading, writing = of("ada", scope="openid items:read"), of("ada", scope="items:write")
        assert (await service.get("/items", headers=reading)).status_code == 200
        response = await service.post("/items", json=LAMP, headers=reading)
        assert code(response) == (403, "forbidden")
        assert problem(response)["detail"] == "The scope items:write is missing."
        assert (await service.post("/items", json=LAMP, headers=writing)).status_code == 201
        assert code(await service.get("/items", headers=writing)) == (403, "forbidden")
        assert code(await service.get("/users", headers=of("ada", scope="users:read"))) == (403, "forbidden")
        assert (await service.get("/users/1", headers=of("ada", scope="users:read"))).status_code == 200
        assert code(await service.get("/items", headers=of("root"))) == (403, "forbidden")


async def test_a_batch_of_a_token_is_checked_as_every_other(service: httpx.AsyncClient) -> None:
    made = [(await service.post("/items", json=LAMP, headers=of(name))).json()["id"] for name in ("ada", "bob")]
    response = await service.patch("/items", json=[{"id": id, "price": 2} for id in made], headers=of("ada"))
    assert code(response) == (403, "not-owner")
    assert pointers(response) == ["/1"]


async def test_keys_are_rotated_without_a_refused_request(
    settings: Settings, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.0)
    async with serving_jwts(settings, issuer) as service:
        await rotate(service, issuer)


async def rotate(service: httpx.AsyncClient, issuer: Issuer) -> None:
    old, new = signing_key(), signing_key("two", "RS256")
    assert (await service.get("/items", headers=of("ada", old))).status_code == 200
    issuer.key_set["keys"].append(new.public())
    assert (await service.get("/items", headers=of("ada", new))).status_code == 200
    assert (await service.get("/items", headers=of("bob", old))).status_code == 200
    issuer.key_set["keys"] = [new.public()]
    assert code(await service.get("/items", headers=of("ada", signing_key("three")))) == (401, "invalid-token")
    assert code(await service.get("/items", headers=of("bob", old, jti="another one"))) == (401, "invalid-token")
    assert (await service.get("/items", headers=of("ada", new))).status_code == 200


async def test_without_keys_a_token_is_no_401_and_other_callers_come_in(settings: Settings, issuer: Issuer) -> None:
    issuer.status = 503
    async with serving_jwts(settings, issuer, auth=frozenset({"jwt", "tokens"})) as service:
        response = await service.get("/items", headers=of("ada"))
        assert code(response) == (503, "not-ready")
        assert problem(response)["detail"] == "The keys of the tokens' issuer cannot be read now."
        assert problem(response)["retryable"]
        assert response.headers["retry-after"] == "1"
        assert code(await service.get("/items", headers=bearer("lamp"))) == (401, "invalid-token")
        token = await issue(settings.database_url, 1)
        assert (await service.get("/items", headers=bearer(token))).status_code == 200
        assert (await service.get("/readyz")).status_code == 200


async def test_a_token_that_is_too_large_is_refused(service: httpx.AsyncClient) -> None:
    assert (await service.get("/items", headers=of("ada", lamp="a" * 5000))).status_code == 200
    assert code(await service.get("/items", headers=of("ada", lamp="a" * 7000))) == (401, "invalid-token")
