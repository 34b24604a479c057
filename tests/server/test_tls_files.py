"""The files of TLS: what is wrong with them is said before the service listens, in a line that says what to do."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from service.command_line import main
from service.contradictions import contradictions
from service.server.tls import UnusableFile, server_context, shortcoming, tls_obstacle
from service.settings import Settings
from tests.server.test_tls import MTLS, TOKENS, TLSService, tls
from tests.support.certificates import DAY, Authority
from tests.support.waiting import wait_until

BOTH = "TLS needs a certificate and its key"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (
            {"auth": frozenset({MTLS})},
            "ITEMSVC_AUTH has mtls, which needs ITEMSVC_TLS_CERT, ITEMSVC_TLS_KEY, ITEMSVC_TLS_CLIENT_CA",
        ),
        (
            {"auth": frozenset({MTLS, TOKENS}), "tls_cert": "a", "tls_key": "b"},
            "ITEMSVC_AUTH has mtls, which needs ITEMSVC_TLS_CLIENT_CA",
        ),
        (
            {"tls_cert": "a"},
            f"ITEMSVC_TLS_CERT is set; expected ITEMSVC_TLS_KEY, too: {BOTH}",
        ),
        (
            {"tls_key": "a"},
            f"ITEMSVC_TLS_KEY is set; expected ITEMSVC_TLS_CERT, too: {BOTH}",
        ),
        (
            {"tls_cert": "a", "tls_key": "b", "tls_client_ca": "c", "tls_client_crl": "d"},
            "ITEMSVC_AUTH has no mtls, without which nothing reads ITEMSVC_TLS_CLIENT_CA, ITEMSVC_TLS_CLIENT_CRL",
        ),
        (
            {"tls_cert": "a", "tls_key": "b", "tls_client_name": "cn"},
            "ITEMSVC_AUTH has no mtls, without which nothing reads ITEMSVC_TLS_CLIENT_NAME",
        ),
        (
            {"tls_version_min": "1.2"},
            "ITEMSVC_TLS_VERSION_MIN is set; expected ITEMSVC_TLS_CERT, too: there is no TLS without it",
        ),
        ({"tls_cert": "a", "tls_key": "b", "tls_version_min": "1.2"}, ""),
        ({"tls_cert": "a", "tls_key": "b"}, ""),
        ({"auth": frozenset({MTLS}), "tls_cert": "a", "tls_key": "b", "tls_client_ca": "c"}, ""),
    ],
)
def test_settings_that_lack_a_file_name_it(given: dict[str, object], error: str) -> None:
    assert "".join(contradictions(Settings(**given))) == error  # type: ignore[arg-type] # as the test says


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of mTLS with files that can be used."""
    authority = Authority(tmp_path)
    server = authority.server()
    return Settings(
        auth=frozenset({MTLS}),
        tls_cert=str(server.cert),
        tls_key=str(server.key),
        tls_client_ca=str(authority.path),
        tls_client_crl=str(authority.revoke()),
    )


def breaking(name: str, change: Callable[[Path], object]) -> Callable[[Settings], object]:
    return lambda settings: change(Path(getattr(settings, name)))


def issue_anew(cert: Path, **options: object) -> None:
    """Put another key, and its certificate, in the place of these."""
    Authority(cert.parent, "another").server(cert.stem, **options)


def issue_another_key(key: Path) -> None:
    cert = key.with_suffix(".crt")
    kept = cert.read_bytes()
    issue_anew(cert)
    cert.write_bytes(kept)


FILES = {"tls_cert": "CERT", "tls_key": "KEY", "tls_client_ca": "CLIENT_CA", "tls_client_crl": "CLIENT_CRL"}
MISSING = [(breaking(name, Path.unlink), f"ITEMSVC_TLS_{of}: ", "cannot be read") for name, of in FILES.items()]
EMPTY = [
    (breaking(name, lambda path: path.write_text("lamp")), f"ITEMSVC_TLS_{of}: ", "PEM format")
    for name, of in FILES.items()
]
OTHERS = [
    (breaking("tls_key", issue_another_key), "ITEMSVC_TLS_KEY: ", "does not belong to the certificate in"),
    (
        breaking("tls_cert", lambda path: issue_anew(path, password=b"lamp")),
        "ITEMSVC_TLS_KEY: ",
        "is encrypted: decrypt it (openssl pkey",
    ),
    (
        lambda settings: Path(settings.tls_client_ca).write_bytes(Path(settings.tls_client_crl).read_bytes()),
        "ITEMSVC_TLS_CLIENT_CA: ",
        "has no CA certificate",
    ),
]


@pytest.mark.parametrize(("damage", "begin", "says"), [*MISSING, *EMPTY, *OTHERS])
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(
    settings: Settings, damage: Callable[[Settings], object], begin: str, says: str
) -> None:
    server_context(settings)
    damage(settings)
    with pytest.raises(UnusableFile) as found:
        server_context(settings)
    assert str(found.value).startswith(begin)
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_a_key_of_a_curve_that_granian_does_not_take_is_refused_where_granian_would_use_it(settings: Settings) -> None:
    issue_anew(Path(settings.tls_cert), curve=ec.SECP521R1())
    server_context(settings)
    with pytest.raises(UnusableFile, match="is of the curve P-521"):
        server_context(Settings(tls_cert=settings.tls_cert, tls_key=settings.tls_key))


@pytest.mark.parametrize("auth", [MTLS, TOKENS])
@pytest.mark.parametrize("begin", ["", "subject=CN = localhost\n", "# caf\u00e9\n"])
def test_a_file_may_have_the_certificates_between_and_what_openssl_prints_with_them(
    settings: Settings, begin: str, auth: str
) -> None:
    cert = Path(settings.tls_cert)
    given = replace(settings, auth=frozenset({auth}))
    for number in range(8):  # of other lengths
        between = Authority(cert.parent, f"between{'n' * number}").path.read_bytes()
        issue_anew(cert)
        cert.write_bytes(begin.encode("latin-1") + cert.read_bytes() + between + b"# the end\n")
        assert tls_obstacle(given) == ""


def test_a_key_of_a_kind_that_tls_does_not_have_is_refused(settings: Settings) -> None:
    issue_anew(Path(settings.tls_cert), curve=ec.SECP256K1())
    for auth in (MTLS, TOKENS):
        assert "ITEMSVC_TLS_CERT: " in tls_obstacle(replace(settings, auth=frozenset({auth})))


def test_a_certificate_that_clients_will_refuse_is_found_out(settings: Settings) -> None:
    assert shortcoming(server_context(settings), settings.tls_cert) == ""
    issue_anew(Path(settings.tls_cert), begins=-2 * DAY, ends=-DAY)
    assert shortcoming(server_context(settings), settings.tls_cert) == "certificate has expired"
    issue_anew(Path(settings.tls_cert), begins=DAY, ends=2 * DAY)
    assert shortcoming(server_context(settings), settings.tls_cert) == "certificate is not yet valid"
    Authority(Path(settings.tls_cert).parent, "another").client("server", hosts=["localhost"])
    assert "purpose" in shortcoming(server_context(settings), settings.tls_cert)


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_command_ends_with_what_is_wrong_with_a_file(
    settings: Settings,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(settings.tls_key).unlink()
    environ = tls(Authority(tmp_path))
    monkeypatch.setattr("os.environ", {"PORT": "0", **environ})
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        assert main([command]) == 1
    finally:
        root.handlers, root.level = handlers, level
    assert f"- ITEMSVC_TLS_KEY: {settings.tls_key} cannot be read (No such file" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("auth", [MTLS, TOKENS])
def test_a_service_whose_certificate_has_expired_says_so_and_serves(
    database_url: str, tmp_path: Path, auth: str
) -> None:
    authority = Authority(tmp_path)
    authority.server(begins=-2 * DAY, ends=-DAY)
    service = TLSService(database_url, authority, tls(authority, auth))
    service.verify = False
    with service, service.client() as client:
        assert client.get("/livez").is_success
        wait_until(lambda: "clients will refuse the certificate of the service: certificate has expired" in service.log)
