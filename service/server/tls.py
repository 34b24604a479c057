"""TLS: the certificate, the key and the client CA, read from their files by each worker when it starts."""

import errno
import logging
import ssl
from contextlib import suppress
from pathlib import Path

from service.settings import Settings
from service.variables import variable_of

log = logging.getLogger(__name__)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
DECRYPT = "decrypt it (openssl pkey -in KEY -out KEY.pem), and let the service's user alone read it"
P521 = bytes.fromhex("06052b81040023")  # as a certificate names the curve of its key
MISMATCH = "KEY_VALUES_MISMATCH"
WEAK = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


class UnusableFile(Exception):
    """A file of TLS cannot be used; the text names the setting, and says what to do."""


class _IsEncrypted(Exception):
    """A key wants a password."""


def tls_obstacle(settings: Settings) -> str:
    """Return why the files of TLS cannot be used, or ""; log what clients will not like about the certificate."""
    if not settings.tls_cert:
        return ""
    try:
        context = server_context(settings)
    except UnusableFile as error:
        return str(error)
    if reason := shortcoming(context, settings.tls_cert):
        log.warning("clients will refuse the certificate of the service: %s", reason, extra={"file": settings.tls_cert})
    return ""


def server_context(settings: Settings) -> ssl.SSLContext:
    """Return the context of the server. Raise UnusableFile."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.tls_version_min]
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_certificate(context, settings)
    certificate = _own_certificate(context, settings.tls_cert)
    if "mtls" not in settings.auth and P521 in certificate:
        what = "is of the curve P-521, which the server's TLS does not have (rustls 0.23): make a key of P-256"
        raise UnusableFile(f"{_named(settings.tls_key, 'tls_key')} {what}")
    if settings.tls_client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL  # who has none may have a token
        _load_ca(context, settings.tls_client_ca, "tls_client_ca", "x509_ca", "CA certificate")
    if settings.tls_client_crl:
        _load_ca(context, settings.tls_client_crl, "tls_client_crl", "crl", "revocation list")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    _read(settings.tls_cert, "tls_cert")
    _read(settings.tls_key, "tls_key")
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, _refuse_password)
    except _IsEncrypted:
        raise UnusableFile(f"{_named(settings.tls_key, 'tls_key')} is encrypted: {DECRYPT}") from None
    except ssl.SSLError as error:
        if error.reason == MISMATCH:
            what = f"does not belong to the certificate in {variable_of('tls_cert')}, {settings.tls_cert}"
            raise UnusableFile(f"{_named(settings.tls_key, 'tls_key')} {what}") from None
        raise UnusableFile(_unreadable(settings, error)) from None


def _unreadable(settings: Settings, error: ssl.SSLError) -> str:
    """Return which of both files cannot be used: OpenSSL does not say it."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(settings.tls_cert)
    except ssl.SSLError:
        return f"{_named(settings.tls_cert, 'tls_cert')} has no certificate in PEM format"
    if error.reason in WEAK:
        return f"{_named(settings.tls_cert, 'tls_cert')} is too weak for TLS ({error.reason}): make a new one"
    return f"{_named(settings.tls_key, 'tls_key')} has no private key in PEM format ({error.reason or error})"


def _load_ca(context: ssl.SSLContext, path: str, name: str, kind: str, what: str) -> None:
    _read(path, name)
    before = context.cert_store_stats()[kind]
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise UnusableFile(f"{_named(path, name)} has no {what} in PEM format") from None
    if context.cert_store_stats()[kind] == before:
        raise UnusableFile(f"{_named(path, name)} has no {what}")


def _read(path: str, name: str) -> None:
    try:
        with Path(path).open("rb") as opened:
            opened.read(1)
    except OSError as error:
        hint = ": it has to be readable for the service's user" if error.errno == errno.EACCES else ""
        raise UnusableFile(f"{_named(path, name)} cannot be read ({error.strerror}){hint}") from None


def _named(path: str, name: str) -> str:
    return f"{variable_of(name)}: {path}"


def _refuse_password() -> str:
    raise _IsEncrypted


def shortcoming(context: ssl.SSLContext, path: str) -> str:
    """Return why clients will not accept the server's own certificate, such as that it has expired, or "".

    A handshake in memory finds out, with a client that trusts what is in its file.
    """
    trusting = _client_context()
    trusting.verify_mode = ssl.CERT_REQUIRED
    trusting.load_verify_locations(path)
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        _shake_hands(context, trusting)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    return ""


def _own_certificate(context: ssl.SSLContext, path: str) -> bytes:
    """Return the server's own certificate of a file that may have others behind it, in DER. Raise UnusableFile."""
    try:
        return _shake_hands(context, _client_context()).getpeercert(binary_form=True) or b""
    except ssl.SSLError as error:
        reason = error.reason or error
        raise UnusableFile(f"{_named(path, 'tls_cert')} is of a kind that TLS does not have ({reason})") from None


def _client_context() -> ssl.SSLContext:
    """Return the context of a client that accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _shake_hands(context: ssl.SSLContext, trusting: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side of a handshake in memory. Raise ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trusting.wrap_bio(to_client, to_server), context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client
