"""Certificates as tests need them: CAs, which issue those of servers and clients, valid and not, and revoke them."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
PLAIN = serialization.NoEncryption()


class Files(NamedTuple):
    """The paths of a certificate and its key, in PEM format."""

    cert: Path
    key: Path


class Authority:
    """A CA, whose certificate is in the file `path`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self._name, self._name, self._key.public_key(), -DAY, DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.path = folder / f"{name}.crt"
        self.path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server", **options: object) -> Files:
        """Issue a certificate of localhost."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return self._issue(name, "localhost", names, ExtendedKeyUsageOID.SERVER_AUTH, **options)  # type: ignore[arg-type]

    def client(
        self,
        name: str = "client",
        common_name: str = "",
        *,
        emails: Sequence[str] = (),
        hosts: Sequence[str] = (),
        uris: Sequence[str] = (),
        **options: object,
    ) -> Files:
        """Issue a certificate of a client with these names."""
        names = [*map(x509.RFC822Name, emails), *map(x509.DNSName, hosts), *map(x509.UniformResourceIdentifier, uris)]
        return self._issue(name, common_name, names, ExtendedKeyUsageOID.CLIENT_AUTH, **options)  # type: ignore[arg-type]

    def _issue(  # noqa: PLR0913
        self,
        name: str,
        common_name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        *,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
        is_self_signed: bool = False,
        curve: EllipticCurve | None = None,
        password: bytes = b"",
    ) -> Files:
        key = ec.generate_private_key(curve or ec.SECP256R1())
        subject = _name(common_name)
        builder = _builder(subject, subject if is_self_signed else self._name, key.public_key(), begins, ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        cert = builder.sign(key if is_self_signed else self._key, hashes.SHA256())
        files = Files(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        files.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        encryption = serialization.BestAvailableEncryption(password) if password else PLAIN
        form = serialization.PrivateFormat.PKCS8
        files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
        return files

    def revoke(self, *revoked: Files) -> Path:
        """Write the CA's revocation list, with these certificates on it."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now - DAY, now + DAY)
        for files in revoked:
            number = x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number
            one = x509.RevokedCertificateBuilder(number, now).build()
            builder = builder.add_revoked_certificate(one)
        path = self._folder / "revoked.crl"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def trusting(self, client: Files | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this CA, with its own certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.path))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
