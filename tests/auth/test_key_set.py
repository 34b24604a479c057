"""Key sets: which of their keys verify tokens, and which sets are none."""

import json
from typing import Any

import pytest

from service.auth.key_set import KEYS_MAX, InvalidKeySet, read_key_set
from tests.support.issuer import MISSING, signing_key

ALGORITHMS = {"RS256", "ES256", "EdDSA", "Ed25519"}
RSA, EC, ED = signing_key("rsa", "RS256"), signing_key("ec", "ES256"), signing_key("ed", "Ed25519")
OCTETS = {"kty": "oct", "k": 43 * "a", "kid": "secret"}


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_are_found_by_id_and_algorithm() -> None:
    found = read_key_set(key_set(RSA.public(), EC.public(), ED.public()), ALGORITHMS)
    names = [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA"), ("ed", "Ed25519")]
    assert {(kid, name) for kid in ("rsa", "ec", "ed") for name in ALGORITHMS if found.find(kid, name)} == set(names)
    assert found.ids == ["ec", "ed", "rsa"]
    assert found.skipped == []


def test_without_an_id_the_only_key_of_an_algorithm_is_found() -> None:
    found = read_key_set(key_set(RSA.public(), EC.public(), signing_key("other").public()), ALGORITHMS)
    assert found.find(None, "RS256") == found.find("rsa", "RS256")
    assert found.find(None, "ES256") is None
    assert found.find(None, "EdDSA") is None


@pytest.mark.parametrize(
    "members",
    [
        {"use": MISSING},
        {"key_ops": ["verify"]},
        {"alg": "RS256"},
        {"x5c": ["lamp"], "x5t": "a" * 27, "lamp": {}},
        {"use": "sig", "key_ops": ["sign", "verify"]},
    ],
)
def test_a_key_is_used(members: dict[str, Any]) -> None:
    assert read_key_set(key_set(RSA.public(**members)), ALGORITHMS).find("rsa", "RS256")


UNUSED: dict[str, tuple[Any, str]] = {
    "a secret": (OCTETS, "the type 'oct' is not used"),
    "a type of tomorrow": ({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}, "the type 'AKP' is not used"),
    "a private key": (RSA.key.as_dict(private=True), "it is a private key"),
    "for encryption": (RSA.public(use="enc"), "it is not for signatures"),
    "for signing": (RSA.public(use=MISSING, key_ops=["sign"]), "it is not for signatures"),
    "too short": (RSA.public(n=170 * "_" + "8"), "it has 1024 bits"),
    "too long": (RSA.public(n="_" * 2000), "it has 12000 bits"),
    "a curve of another purpose": (ED.public(crv="X25519"), "the curve 'X25519' is not used"),
    "a curve that is not used": (EC.public(crv="secp256k1"), "the curve 'secp256k1' is not used"),
    "without a modulus": (RSA.public(n=MISSING), "it has 0 bits"),
    "without an exponent": (RSA.public(e=MISSING), "it is malformed"),
    "with an exponent of 1": (RSA.public(e="AQ"), "it is malformed"),
    "with a modulus that is no text": (RSA.public(n=1), "it is malformed"),
    "with a modulus that is not base64": (RSA.public(n="é" * 400), "it is malformed"),
    "a point that is not on the curve": (EC.public(x=43 * "A"), "it is malformed"),
    "with an id that is no text": (RSA.public(kid=1), "it is malformed"),
    "without a type": (RSA.public(kty=MISSING), "it is malformed"),
    "no object": ("lamp", "it is malformed"),
}


@pytest.mark.parametrize("what", UNUSED)
def test_a_key_that_cannot_be_used_is_left_out(what: str) -> None:
    key, reason = UNUSED[what]
    found = read_key_set(key_set(key, EC.public()), ALGORITHMS)
    assert found.ids == ["ec"]
    assert [each.startswith(f"keys[0]: {reason}") for each in found.skipped] == [True], found.skipped
    with pytest.raises(InvalidKeySet, match=r"no key that can be used \(keys\[0\]: "):
        read_key_set(key_set(key), ALGORITHMS)


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [(RSA.public(alg="PS256"), ALGORITHMS), (EC.public(alg="RS256"), ALGORITHMS), (ED.public(), {"ES256", "Ed448"})],
)
def test_a_key_for_an_algorithm_that_is_not_allowed_is_not_used(key: Any, algorithms: set[str]) -> None:
    with pytest.raises(InvalidKeySet, match="for others than"):
        read_key_set(key_set(key), algorithms)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [}', 5000 * b"[", b'{"keys":' + 5000 * b"[", b"\xff"],
)
def test_a_text_that_is_no_key_set_is_an_error(content: bytes) -> None:
    with pytest.raises(InvalidKeySet, match=r'^it is no JSON object with "keys"$'):
        read_key_set(content, ALGORITHMS)


def test_a_set_without_keys_or_with_too_many_is_an_error() -> None:
    with pytest.raises(InvalidKeySet, match="it has no keys"):
        read_key_set(key_set(), ALGORITHMS)
    read_key_set(key_set(*(KEYS_MAX * [EC.public()])), ALGORITHMS)
    with pytest.raises(InvalidKeySet, match=f"more than {KEYS_MAX} keys"):
        read_key_set(key_set(*((KEYS_MAX + 1) * [EC.public()])), ALGORITHMS)


def test_of_two_keys_with_one_id_the_first_counts_for_its_algorithm() -> None:
    found = read_key_set(key_set(EC.public(kid="a"), signing_key("b").public(kid="a"), RSA.public(kid="a")), ALGORITHMS)
    first, other = found.find("a", "ES256"), found.find("a", "RS256")
    assert first is not None
    assert first.jwk.x == EC.public()["x"]
    assert other is not None
