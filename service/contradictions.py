"""What settings contradict each other, or what they name, though each has a value that it takes."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from service.database_url import is_in_memory
from service.dotenv_file import reason
from service.jwks_location import EXPECTED, location
from service.settings import Settings, setting_fields
from service.swagger_ui import PACKAGE, swagger_ui_folder
from service.variables import quoted, variable_of

JWT = "jwt"
MTLS = "mtls"
MTLS_NEEDED = ("tls_cert", "tls_key", "tls_client_ca")
JWT_NEEDED = ("jwt_issuer", "jwt_audience", "jwt_jwks")


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each."""
    if settings.workers > 1 and is_in_memory(make_url(settings.database_url)):
        yield f"{variable_of('workers')} is {settings.workers}; expected 1: workers cannot share SQLite's memory"
    if settings.statement_timeout_ms > settings.request_timeout_ms:
        yield (
            f"{variable_of('statement_timeout_ms')} is {settings.statement_timeout_ms}; expected at most "
            f"{variable_of('request_timeout_ms')}, which is {settings.request_timeout_ms}"
        )
    if settings.metrics_port and not settings.metrics:
        yield f"{variable_of('metrics_port')} is {settings.metrics_port}; expected 0, as ITEMSVC_METRICS is off"
    if settings.metrics_port and settings.metrics_port == settings.port:
        yield f"{variable_of('metrics_port')} is {settings.metrics_port}; expected another port than PORT, or 0 for it"
    if settings.access_log and settings.log_level != "info":
        yield f"{variable_of('access_log')} is on; expected {variable_of('log_level')} to be info, as its lines are"
    if not settings.traces and "trace_ratio" in _changed(settings):
        yield f"{variable_of('trace_ratio')} is set; expected {variable_of('traces')} to be on, too"
    for name in ("caller_requests_per_s", "caller_requests_max"):
        if (quotas := getattr(settings, name)) and not settings.auth:
            yield f"{variable_of(name)} is {quotas}; expected 0, as ITEMSVC_AUTH is off: nobody is asked who calls"
    if settings.docs and swagger_ui_folder() is None:
        yield f"{variable_of('docs')} is on; expected off, as the package {PACKAGE} is not installed (extra: docs)"
    yield from _jwt_contradictions(settings)
    yield from _tls_contradictions(settings)


def _jwt_contradictions(settings: Settings) -> Iterator[str]:
    given = _changed(settings)
    if JWT not in settings.auth:
        names = [variable_of(name) for name in given if name.startswith(f"{JWT}_")]
        if names:
            yield f"{variable_of('auth')} has no {JWT}, without which nothing reads {', '.join(sorted(names))}"
        return
    missing = [variable_of(name) for name in JWT_NEEDED if name not in given]
    if missing:
        yield f"{variable_of('auth')} has {JWT}, which needs {', '.join(missing)}"
    if settings.jwt_jwks and (problem := _jwks_problem(settings.jwt_jwks)):
        yield f"{variable_of('jwt_jwks')} is {quoted(settings.jwt_jwks)}; expected {EXPECTED}{problem}"


def _changed(settings: Settings) -> set[str]:
    """Return the names of the settings that have another value than their default."""
    return {field.name for field in setting_fields() if getattr(settings, field.name) != field.default}


def _tls_contradictions(settings: Settings) -> Iterator[str]:
    """Yield what TLS lacks: a certificate goes with its key, and client certificates with both, and with their CA."""
    if MTLS in settings.auth:
        missing = [variable_of(name) for name in MTLS_NEEDED if not getattr(settings, name)]
        if missing:
            yield f"{variable_of('auth')} has {MTLS}, which needs {', '.join(missing)}"
        return
    cert, key = variable_of("tls_cert"), variable_of("tls_key")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        given, other = (cert, key) if settings.tls_cert else (key, cert)
        yield f"{given} is set; expected {other}, too: TLS needs a certificate and its key"
    changed = _changed(settings)
    if not settings.tls_cert and "tls_version_min" in changed:
        yield f"{variable_of('tls_version_min')} is set; expected {cert}, too: there is no TLS without it"
    unread = sorted(variable_of(name) for name in changed if name.startswith("tls_client_"))
    if unread:
        yield f"{variable_of('auth')} has no {MTLS}, without which nothing reads {', '.join(unread)}"


def _jwks_problem(text: str) -> str:
    """Return why there can be no keys, from a colon on, or ""."""
    try:
        place = location(text)
        if isinstance(place, Path):
            place.open("rb").close()
    except OSError as error:
        return f": {reason(error)}"
    except ValueError:
        return ": it is none"
    return ""
