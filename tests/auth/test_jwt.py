"""JWTs: which are valid, whom they name, and what they let their callers do; the clocks are the test's."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from service.auth.jwt import LEEWAY_S
from service.auth.principal import principal_of
from service.auth.token_text import new_token
from tests.support.issuer import AUDIENCE, ISSUER, MISSING, claims_of, signed, signing_key
from tests.support.jwts import NOW, RULES, JwtCallers, opened

pytestmark = pytest.mark.anyio

ONE, TWO = signing_key("one", "RS256"), signing_key("two", "RS256")
EC, ED = signing_key("ec", "ES256"), signing_key("ed", "Ed25519")


@pytest.fixture
async def callers() -> AsyncIterator[JwtCallers]:
    """Return callers with tokens of an issuer that has several keys."""
    async with opened(ONE, TWO, EC, ED) as callers:
        yield callers


def public_pem() -> bytes:
    assert isinstance(ONE.key, RSAKey)
    return ONE.key.as_pem(private=False)


CLAIMS = claims_of("ada", NOW)
CHANGES: dict[str, dict[str, Any]] = {
    "no issuer": {"iss": MISSING},
    "another issuer": {"iss": ISSUER.removesuffix("/")},
    "several issuers": {"iss": [ISSUER]},
    "no audience": {"aud": MISSING},
    "another audience": {"aud": f"{AUDIENCE}/"},
    "other audiences": {"aud": ["https://other.example.org", f"{AUDIENCE}.evil.example"]},
    "an empty audience": {"aud": []},
    "no expiry": {"exp": MISSING},
    "a null expiry": {"exp": None},
    "an expiry that is no number": {"exp": str(int(NOW) + 300)},
    "an expiry that is true": {"exp": True},
    "expired": {"exp": int(NOW) - LEEWAY_S},
    "not yet valid": {"nbf": int(NOW) + LEEWAY_S + 1},
    "issued in the future": {"iat": int(NOW) + LEEWAY_S + 1},
    "no subject": {"sub": MISSING},
    "a subject that is no text": {"sub": 1},
    "an empty subject": {"sub": ""},
    "a long subject": {"sub": "a" * 300},
    "a subject that is no Unicode": {"sub": "\ud800"},
    "a subject with NUL": {"sub": "ada\0"},
    "an unknown subject": {"sub": "eve"},
}
HEADERS: dict[str, dict[str, Any]] = {
    "an unknown kid": {"kid": "three"},
    "another key's kid": {"kid": "two"},
    "a key of another type": {"kid": "ec"},
    "no kid, where there are several keys": {"kid": MISSING},
    "a kid that is no text": {"kid": 1},
    "an algorithm that is not allowed": {"alg": "RS512"},
    "an algorithm that is none": {"alg": "lamp"},
    "an algorithm that is no text": {"alg": ["RS256"]},
    "no algorithm": {"alg": MISSING},
    "an extension": {"crit": ["lamp"], "lamp": 1},
    "the extension b64": {"crit": ["b64"], "b64": False},
    "no extensions": {"crit": []},
    "another purpose": {"typ": "logout+jwt"},
    "a type that is no text": {"typ": 1},
}
MALFORMED = {
    "a word": "lamp",
    "dots": "..",
    "two parts": f"{signed(CLAIMS, ONE).rpartition('.')[0]}",
    "four parts": f"{signed(CLAIMS, ONE)}.lamp",
    "no signature": f"{signed(CLAIMS, ONE).rpartition('.')[0]}.",
    "a header that is no JSON": signed(CLAIMS, ONE, b"{"),
    "a header that is an array": signed(CLAIMS, ONE, b"[1]"),
    "a header that is nested too deeply": signed(
        CLAIMS, ONE, b'{"alg":"RS256","x":' + 1400 * b"[" + 1400 * b"]" + b"}"
    ),
    "claims that are no JSON": signed(b"{", ONE),
    "claims that are an array": signed(b"[1]", ONE),
    "claims that are nested too deeply": signed(2500 * b"[" + 2500 * b"]", ONE),
    "claims that are no UTF-8": signed(b'{"iss":"\xff"}', ONE),
    "a number that is too long": signed(b'{"exp":' + 4999 * b"9" + b"}", ONE),
    "an expiry that is not a number": signed(json.dumps(CLAIMS | {"exp": float("nan")}).encode(), ONE),
    "an expiry that is infinite": signed(json.dumps(CLAIMS | {"exp": float("inf")}).encode(), ONE),
    "five parts, as if it were encrypted": ".".join(5 * ["lamp"]),
}
FORGED = {
    "unsigned": signed(CLAIMS, ONE, {"alg": "none"}, b""),
    "unsigned, in another case": signed(CLAIMS, ONE, {"alg": "NoNe"}, b""),
    "an unsigned one that says that it is signed": signed(CLAIMS, ONE, secret=b""),
    "signed with the public key as a secret": signed(CLAIMS, ONE, {"alg": "HS256"}, public_pem()),
    "signed with the key of the set as a secret": signed(
        CLAIMS, ONE, {"alg": "HS256"}, json.dumps(ONE.public()).encode()
    ),
    "a secret where a signature is expected": signed(CLAIMS, ONE, secret=public_pem()),
    "a key that the token brings": signed(CLAIMS, signing_key("mine", "RS256"), {"kid": "one", "jwk": ONE.public()}),
    "a place of keys that the token names": signed(
        CLAIMS, signing_key("mine", "RS256"), {"jku": "http://127.0.0.1:1/", "kid": "mine"}
    ),
    "other claims under a signature": ".".join(
        [*signed(CLAIMS, ONE).split(".")[:1], *signed(claims_of("root", NOW), TWO).split(".")[1:2], "lamp"]
    ),
}
TOKENS = {
    **{name: signed(claims_of("ada", NOW, **change), ONE) for name, change in CHANGES.items()},
    **{name: signed(CLAIMS, ONE, header) for name, header in HEADERS.items()},
    **MALFORMED,
    **FORGED,
    "a stored token": new_token(),
}


@pytest.mark.parametrize("what", TOKENS)
async def test_a_token_is_refused(callers: JwtCallers, what: str) -> None:
    assert await callers.who(TOKENS[what]) is None
    assert callers.finds == ("unknown subject" in what)  # no statement for what is not valid


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"aud": [AUDIENCE]},
        {"aud": ["https://other.example.org", AUDIENCE]},
        {"exp": int(NOW) - LEEWAY_S + 1},
        {"exp": NOW + 0.5},
        {"exp": 10**400},
        {"nbf": int(NOW) + LEEWAY_S},
        {"iat": MISSING},
        {"lamp": {"on": True}},
    ],
)
async def test_a_token_is_accepted(callers: JwtCallers, change: dict[str, Any]) -> None:
    assert await callers.who(callers.token(key=ONE, **change)) == principal_of(1, "writer")


@pytest.mark.parametrize("key", [ONE, TWO, EC, ED], ids=lambda key: key.kid)
async def test_each_key_of_the_issuer_verifies_its_tokens(callers: JwtCallers, key: Any) -> None:
    assert await callers.who(callers.token(key=key))


@pytest.mark.parametrize(
    "header",
    [{"typ": "at+jwt"}, {"typ": MISSING}, {"typ": "application/at+JWT"}, {"lamp": 1, "x5c": ["a" * 5000]}],
)
async def test_a_header_may_have_what_is_not_understood(callers: JwtCallers, header: dict[str, Any]) -> None:
    assert await callers.who(signed(claims_of("ada", NOW), ONE, header))


async def test_an_old_and_a_new_name_of_an_algorithm_are_both_read() -> None:
    for name in ("EdDSA", "Ed25519"):  # RFC 8037, RFC 9864
        async with opened(ED) as callers:
            assert await callers.who(signed(claims_of("ada", NOW), ED, {"alg": name}))


async def test_only_the_algorithms_of_the_settings_are_allowed() -> None:
    async with opened(ONE, EC, rules=RULES._replace(algorithms={"ES256"})) as callers:
        assert await callers.who(callers.token(key=EC))
        assert await callers.who(callers.token(key=ONE)) is None


async def test_without_kid_the_only_key_for_the_algorithm_counts() -> None:
    nameless = signing_key(None, "RS256")
    async with opened(nameless, EC) as callers:
        assert await callers.who(callers.token(key=nameless))
        assert await callers.who(signed(claims_of("ada", NOW), EC, {"kid": MISSING}))


async def test_of_a_claim_that_is_there_twice_the_last_counts(callers: JwtCallers) -> None:
    text = json.dumps(CLAIMS)[:-1] + ', "sub": "root"}'  # RFC 7519, section 4
    found = await callers.who(signed(text.encode(), ONE))
    assert found is not None
    assert found.user_id == 9


async def test_a_token_counts_to_its_expiry_and_the_leeway_and_no_longer(callers: JwtCallers) -> None:
    token = callers.token(key=ONE, exp=int(NOW) + 2)
    assert await callers.who(token)
    callers.pass_s(LEEWAY_S + 1)
    assert await callers.who(token)
    callers.pass_s(1)
    assert await callers.who(token) is None
