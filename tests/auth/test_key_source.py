"""Where keys are read: responses and files that are key sets, and those that are not used."""

import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from service.auth import key_source
from service.auth.key_source import KEY_SET_BYTES_MAX, FileSource, KeySourceError
from tests.support.issuer import Issuer, issuing, signing_key, url_source

pytestmark = pytest.mark.anyio

ONE = signing_key("one")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Return an issuer whose key set has the key `one`."""
    async with issuing(ONE) as issuer:
        yield issuer


def certificate(folder: Path, address: str) -> Path:
    """Return the file of a certificate for an address, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    signed = builder.add_extension(names, critical=False).sign(key, SHA256())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{address}.pem"
    path.write_bytes(signed.public_bytes(Encoding.PEM) + secret)
    return path


@pytest.mark.parametrize(
    ("address", "is_trusted", "reason"),
    [
        ("127.0.0.1", True, None),
        ("127.0.0.1", False, "self-signed certificate"),
        ("127.0.0.2", True, "IP address mismatch"),
    ],
)
async def test_over_https_the_issuer_must_have_a_certificate_that_is_trusted_and_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, is_trusted: bool, reason: str | None
) -> None:
    path = certificate(tmp_path, address)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(path)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with issuing(ONE, tls=tls) as issuer:
        source = url_source(issuer.url)
        if reason is None:
            assert json.loads(await source.read()) == issuer.key_set
        else:
            with pytest.raises(KeySourceError, match=reason):
                await source.read()
        assert issuer.fetches == (reason is None)


def chunked(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)


CONTENT = json.dumps({"keys": [ONE.public()]}).encode()
READABLE: dict[str, dict[str, Any]] = {
    "as it is": {"content": CONTENT},
    "of another media type": {"content": CONTENT, "headers": {"Content-Type": "text/plain"}},
    "in chunks": {
        "content": chunked(CONTENT),
        "headers": {"Transfer-Encoding": "chunked", "Content-Length": "0"},
    },
    "with the largest size": {"content": CONTENT.ljust(KEY_SET_BYTES_MAX)},
}


@pytest.mark.parametrize("how", READABLE)
async def test_a_response_is_read(issuer: Issuer, how: str) -> None:
    vars(issuer).update(READABLE[how])
    assert (await url_source(issuer.url).read()).rstrip() == CONTENT


UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a redirect": ({"status": 302, "headers": {"Location": "/jwks.json"}}, "the response is a 302"),
    "an error": ({"status": 503}, "the response is a 503"),
    "nothing": ({"status": 204, "content": b""}, "the response is a 204"),
    "too much": ({"content": CONTENT.ljust(KEY_SET_BYTES_MAX + 1)}, f"it has more than {KEY_SET_BYTES_MAX} bytes"),
    "far too much": ({"content": CONTENT.ljust(8 * KEY_SET_BYTES_MAX)}, f"it has more than {KEY_SET_BYTES_MAX} bytes"),
    "a part": ({"headers": {"Content-Length": "100000"}}, "the response cannot be read: IncompleteRead"),
    "a chunk that is none": (
        {"content": b"lamp", "headers": {"Transfer-Encoding": "chunked"}},
        "the response cannot be read: IncompleteRead",
    ),
    "a wrong head": ({"headers": {"Lamp": 70_000 * "a"}}, "the response cannot be read: LineTooLong"),
    "another protocol": ({"status": 101, "content": b""}, "the response is a 101"),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_response_that_is_not_a_whole_200_is_not_used(issuer: Issuer, what: str) -> None:
    change, reason = UNREADABLE[what]
    vars(issuer).update(change)
    with pytest.raises(KeySourceError) as caught:
        await url_source(issuer.url).read()
    assert str(caught.value).startswith(reason)
    assert issuer.fetches == 1


async def test_a_response_that_does_not_end_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_source, "FETCH_TIMEOUT_S", 0.05)
    issuer.gate.clear()
    with pytest.raises(KeySourceError, match=r"there was no whole response within 0\.05 s"):
        await url_source(issuer.url).read()


async def test_an_issuer_that_is_not_there_and_a_file_that_is_not_are_errors(tmp_path: Path) -> None:
    async with issuing() as issuer:
        gone = issuer.url
    with pytest.raises(KeySourceError, match="Connect"):
        await url_source(gone).read()
    with pytest.raises(KeySourceError, match="No such file or directory"):
        await FileSource(tmp_path / "jwks.json").read()
    (tmp_path / "large").write_bytes(CONTENT.ljust(KEY_SET_BYTES_MAX + 1))
    with pytest.raises(KeySourceError, match="more than"):
        await FileSource(tmp_path / "large").read()
