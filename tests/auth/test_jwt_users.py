"""Whom JWTs name, with which scopes, and for how long that is believed; the clocks are the test's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.auth.principal import principal_of
from tests.support.callers import LIFE_S
from tests.support.issuer import signing_key
from tests.support.jwts import NOW, RULES, JwtCallers, User, opened

pytestmark = pytest.mark.anyio

ONE = signing_key("one", "RS256")


@pytest.fixture
async def callers() -> AsyncIterator[JwtCallers]:
    """Return callers with tokens of an issuer."""
    async with opened(ONE) as callers:
        yield callers


@pytest.mark.parametrize("change", [User(1, is_active=False), User(1, "reader"), None])
async def test_a_change_of_the_user_counts_after_the_life_of_what_was_found(
    callers: JwtCallers, change: User | None
) -> None:
    token = callers.token(key=ONE, exp=int(NOW) + 300)
    before = await callers.who(token)
    if change is None:
        del callers.users["ada"]
    else:
        callers.users["ada"] = change
    callers.pass_s(LIFE_S / 2 - 0.01)
    assert await callers.who(token) == before
    assert callers.finds == 1
    callers.pass_s(0.02)
    assert await callers.who(token) == before  # and begins a look-up
    await callers.settled()
    expected = principal_of(1, "reader") if change == User(1, "reader") else None
    assert await callers.who(token) == expected


async def test_a_token_that_is_not_used_meanwhile_is_not_believed_longer(callers: JwtCallers) -> None:
    token = callers.token(key=ONE)
    assert await callers.who(token)
    callers.users["ada"] = User(1, is_active=False)
    callers.pass_s(LIFE_S)
    assert await callers.who(token) is None


@pytest.mark.parametrize(
    ("claim", "claims", "is_known"),
    [
        ("sub", {"sub": "ada@example.org"}, True),
        ("sub", {"sub": "ada@example.org", "email_verified": True}, True),
        ("sub", {"sub": "ada@example.org", "email_verified": False}, False),
        ("sub", {"sub": "ada@example.org", "email_verified": None}, False),
        ("sub", {"sub": "ada", "email_verified": False}, True),
        ("email", {"email": "ada@example.org"}, False),
        ("email", {"email": "ada@example.org", "email_verified": False}, False),
        ("email", {"email": "ada@example.org", "email_verified": "false"}, False),
        ("email", {"email": "ada@example.org", "email_verified": True}, True),
        ("email", {"email": "ada@example.org", "email_verified": "true"}, True),
        ("email", {"email_verified": True}, False),
        ("email", {"email": "ada", "email_verified": True}, False),  # which is a username, and no address
        ("email", {"email": "ada", "email_verified": False}, False),
        ("preferred_username", {"preferred_username": "ada", "sub": "b3d0"}, True),
        ("https://example.org/user", {"https://example.org/user": "ada", "sub": "b3d0"}, True),
    ],
)
async def test_the_user_is_the_one_whom_the_claim_of_the_settings_names(
    claim: str, claims: dict[str, Any], is_known: bool
) -> None:
    async with opened(rules=RULES._replace(subject_claim=claim)) as callers:
        found = await callers.who(callers.token("eve", **claims))
        assert (found is not None) == is_known
        assert found is None or found.user_id == 1


@pytest.mark.parametrize(
    ("claims", "role", "expected"),
    [
        ({"scope": "items:read"}, "writer", {"items:read"}),
        ({"scope": ["items:read", "items:write"]}, "writer", {"items:read", "items:write"}),
        ({"scope": "openid  items:write users:write"}, "writer", {"items:write"}),
        ({"scope": "items:write"}, "reader", set()),
        ({"scope": "users:read"}, "reader", {"users:read:own"}),
        ({"scope": "*"}, "reader", set()),
        ({"scope": ""}, "writer", set()),
        ({}, "writer", set()),
        ({}, "admin", set()),
    ],
)
async def test_a_token_has_at_most_the_scopes_that_it_claims_and_those_of_the_role(
    claims: dict[str, Any], role: str, expected: set[str]
) -> None:
    async with opened(rules=RULES._replace(scope_claim="scope")) as callers:
        callers.users["ada"] = User(1, role)
        found = await callers.who(callers.token(**claims))
        assert found is not None
        assert found.scopes == expected


@pytest.mark.parametrize("scope", [1, {"items:read": True}, ["items:read", 1]])
async def test_a_token_whose_scopes_have_another_form_is_refused(scope: object) -> None:
    async with opened(rules=RULES._replace(scope_claim="scope")) as callers:
        assert await callers.who(callers.token(scope=scope)) is None


async def test_an_admin_has_of_a_token_the_scopes_that_it_claims() -> None:
    async with opened(rules=RULES._replace(scope_claim="scope")) as callers:
        found = await callers.who(callers.token("root", scope="items:read"))
        assert found is not None
        assert found.may("items:read")
        assert not found.may("users:write")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"aud": "others"}, "aud"),
        ({"iss": "others"}, "iss"),
        ({"exp": int(NOW) - 3600}, "ExpiredToken"),
        ({"sub": "nobody"}, "the claim sub names no user"),
        ({"sub": ""}, "the claim sub has no name"),
        ({"sub": "\u017fam@example.org"}, "the claim sub has no name"),  # folded, it would be another mailbox
    ],
)
async def test_the_log_says_why_a_token_is_refused_and_nothing_that_is_in_it(
    callers: JwtCallers, caplog: pytest.LogCaptureFixture, change: dict[str, Any], reason: str
) -> None:
    assert await callers.who(callers.token(key=ONE, **change)) is None
    [record] = [each for each in caplog.records if each.getMessage() == "JWTs refused"]
    assert reason in record.__dict__["error"]
    assert "others" not in record.__dict__["error"]


async def test_a_key_that_its_issuer_describes_otherwise_is_the_same_key(callers: JwtCallers) -> None:
    token = callers.token(key=ONE, exp=int(NOW) + 300)
    assert await callers.who(token)
    callers.source.keys = [{**key, "use": "sig", "key_ops": ["verify"], "alg": "RS256"} for key in callers.source.keys]
    await callers.keys._read()
    for _ in range(4):
        callers.pass_s(LIFE_S / 2)
        assert await callers.who(token)
        await callers.settled()


async def test_a_token_that_is_known_keeps_no_text_and_is_not_verified_again(
    callers: JwtCallers, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = callers.token(key=ONE)
    assert await callers.who(token)
    [known] = callers.authenticator._known.values()
    assert known.credential._text == ""  # type: ignore[attr-defined]
    monkeypatch.setattr("joserfc.jwt.decode", None)
    for _ in range(20):
        callers.pass_s(LIFE_S / 2)
        assert await callers.who(token)
        await callers.settled()
    assert callers.finds == 21
