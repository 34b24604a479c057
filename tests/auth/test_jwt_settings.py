"""The settings of JWTs: what they take, and what they contradict."""

from pathlib import Path

import pytest

from service.settings import Settings
from service.settings_reader import SettingsError, read_settings

JWT = {
    "ITEMSVC_AUTH": "jwt",
    "ITEMSVC_JWT_ISSUER": "https://login.example.org/",
    "ITEMSVC_JWT_AUDIENCE": "https://items.example.org",
    "ITEMSVC_JWT_JWKS": "https://login.example.org/jwks.json",
}
KINDS = "; expected an https URL, an http URL of a loopback address, or the path of a file that can be read: "


def errors(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    return caught.value.errors


def test_a_service_with_jwts_has_an_issuer_an_audience_and_keys() -> None:
    settings = read_settings(JWT)
    assert settings.auth == {"jwt"}
    assert settings.jwt_algorithms == {"RS256", "ES256", "EdDSA", "Ed25519"}
    assert (settings.jwt_subject_claim, settings.jwt_scope_claim) == ("sub", "")
    assert read_settings(JWT | {"ITEMSVC_AUTH": "tokens, jwt"}).auth == {"tokens", "jwt"}


def test_what_is_missing_is_named_all_at_once() -> None:
    names = ", ".join(name for name in JWT if name != "ITEMSVC_AUTH")
    assert errors({"ITEMSVC_AUTH": "jwt"}) == [f"ITEMSVC_AUTH has jwt, which needs {names}"]
    for name in JWT.keys() - {"ITEMSVC_AUTH"}:
        given = {other: value for other, value in JWT.items() if other != name}
        assert errors(given) == [f"ITEMSVC_AUTH has jwt, which needs {name}"]


def test_settings_that_nothing_reads_are_an_error() -> None:
    names = "ITEMSVC_JWT_AUDIENCE, ITEMSVC_JWT_ISSUER, ITEMSVC_JWT_JWKS"
    for auth in ("off", "tokens"):
        found = errors(JWT | {"ITEMSVC_AUTH": auth})
        assert found == [f"ITEMSVC_AUTH has no jwt, without which nothing reads {names}"]
    assert errors({"ITEMSVC_JWT_SCOPE_CLAIM": "scope"})


@pytest.mark.parametrize("value", ["none", "HS256", "RS256,HS256", "off", "rs256", "RS256,", "ES256K"])
def test_only_algorithms_with_a_public_key_are_taken(value: str) -> None:
    [error] = errors(JWT | {"ITEMSVC_JWT_ALGORITHMS": value})
    assert error.startswith(f"ITEMSVC_JWT_ALGORITHMS is '{value}'; expected RS256, RS384, ")
    assert error.endswith("Ed448, several by commas")


def test_algorithms_are_several_by_commas() -> None:
    assert read_settings(JWT | {"ITEMSVC_JWT_ALGORITHMS": "PS256, ES384"}).jwt_algorithms == {"PS256", "ES384"}


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.org",
        "https://login.example.org:8443/realms/a/certs?x=1",
        "http://127.0.0.1:8080/jwks",
        "http://[::1]/jwks",
        "http://localhost/jwks",
    ],
)
def test_keys_may_be_at_a_url(url: str) -> None:
    assert read_settings(JWT | {"ITEMSVC_JWT_JWKS": url}).jwt_jwks == url


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.org/jwks",
        "http://localhost.example.org/jwks",
        "http://127.0.0.1.example.org/jwks",
        "http://10.0.0.1/jwks",
        "ftp://login.example.org/jwks",
        "file:///etc/passwd",
        "https:///jwks",
        "https://user:s3cret@login.example.org/jwks",
        "http://login.example.org@127.0.0.1/jwks",
        "https://login.example.org/jwks#one",
        "https://login.example.org/j wks",
        "https://lögin.example.org/jwks",
        "https://login.example.org:99999/jwks",
        "https://login.example.org:lamp/jwks",
        "https://[::1/jwks",
    ],
)
def test_no_other_url_is_taken_and_none_is_shown(url: str) -> None:
    assert errors(JWT | {"ITEMSVC_JWT_JWKS": url}) == [f"ITEMSVC_JWT_JWKS is a URL{KINDS}it is none"]


def test_keys_may_be_in_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    environ = JWT | {"ITEMSVC_JWT_JWKS": str(path)}
    assert errors(environ) == [f"ITEMSVC_JWT_JWKS is '{path}'{KINDS}No such file or directory"]
    path.write_text("{}")
    assert read_settings(environ).jwt_jwks == str(path)
    assert errors(JWT | {"ITEMSVC_JWT_JWKS": str(tmp_path)}) == [
        f"ITEMSVC_JWT_JWKS is '{tmp_path}'{KINDS}Is a directory"
    ]


def test_settings_that_are_not_given_are_shown_as_nothing() -> None:
    rows = {row.variable: row for row in Settings().described()}
    assert rows["ITEMSVC_JWT_ISSUER"].value == ""
    assert rows["ITEMSVC_JWT_ALGORITHMS"].value == "ES256,Ed25519,EdDSA,RS256"
