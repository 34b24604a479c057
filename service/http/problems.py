"""The one table from exception to problem+json (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from msgspec import Struct

from db import errors

Header = tuple[bytes, bytes]

CONTENT_TYPE = b"application/problem+json"


class FieldError(Struct, frozen=True):
    """What is wrong at one place of a request: a JSON Pointer (RFC 6901) into the body, or /name of a parameter."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True):
    """Why a request was not served."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: Sequence[FieldError]
    retryable: bool
    request_id: str


class ProblemType(NamedTuple):
    """A kind of problem: callers may rely on its status and code, and on whether to try the same again."""

    status: HTTPStatus
    code: str
    title: str
    retryable: bool = False

    @property
    def type(self) -> str:
        """Return the URI that names the kind."""
        return f"urn:items:problem:{self.code}"


MALFORMED_BODY = ProblemType(HTTPStatus.BAD_REQUEST, "malformed-body", "The body cannot be decoded")
INVALID_QUERY = ProblemType(HTTPStatus.BAD_REQUEST, "invalid-query", "A query parameter is wrong")
INVALID_CURSOR = ProblemType(HTTPStatus.BAD_REQUEST, "invalid-cursor", "The cursor does not belong here")
INVALID_HEADER = ProblemType(HTTPStatus.BAD_REQUEST, "invalid-header", "A header is malformed")
NO_SUCH_PATH = ProblemType(HTTPStatus.NOT_FOUND, "no-such-path", "There is nothing at this path")
ITEM_NOT_FOUND = ProblemType(HTTPStatus.NOT_FOUND, "item-not-found", "There is no such item")
METHOD_NOT_ALLOWED = ProblemType(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "This path has no such method")
NOT_ACCEPTABLE = ProblemType(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", "No acceptable media type")
CONFLICT = ProblemType(HTTPStatus.CONFLICT, "conflict", "The change conflicts with another item")
STALE = ProblemType(HTTPStatus.PRECONDITION_FAILED, "stale", "The item has changed since it was read")
KEY_IN_USE = ProblemType(
    HTTPStatus.CONFLICT, "idempotency-key-in-use", "The request with this key is not finished", retryable=True
)
KEY_REUSED = ProblemType(
    HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The idempotency key belongs to another request"
)
REQUEST_TIMEOUT = ProblemType(
    HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "The body did not arrive in time", retryable=True
)
BODY_TOO_LARGE = ProblemType(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body has an unsupported media type"
)
INVALID_BODY = ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-body", "The body is not what is expected here")
REFUSED = ProblemType(HTTPStatus.UNPROCESSABLE_ENTITY, "refused", "The database refused the values")
HEADER_TOO_LARGE = ProblemType(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header-too-large", "A header is too large")
INTERNAL_ERROR = ProblemType(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "The service failed")
OVERLOADED = ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "Too much is waiting", retryable=True)
UNAVAILABLE = ProblemType(
    HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The database cannot be used now", retryable=True
)
STORAGE_FULL = ProblemType(
    HTTPStatus.SERVICE_UNAVAILABLE, "storage-full", "The database has no room left", retryable=True
)
NOT_READY = ProblemType(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The service is not ready", retryable=True)
# Not retryable: the same write may be made twice.
OUTCOME_UNKNOWN = ProblemType(
    HTTPStatus.SERVICE_UNAVAILABLE, "commit-outcome-unknown", "The write may or may not have happened"
)
TIMED_OUT = ProblemType(HTTPStatus.GATEWAY_TIMEOUT, "timeout", "It took too long, and was given up", retryable=True)

WORDS: dict[type[errors.DatabaseError], ProblemType] = {
    errors.NotFound: ITEM_NOT_FOUND,
    errors.VersionMismatch: STALE,
    errors.Conflict: CONFLICT,
    errors.InvalidValue: REFUSED,
    errors.Overloaded: OVERLOADED,
    errors.Unavailable: UNAVAILABLE,
    errors.SchemaMismatch: UNAVAILABLE,
    errors.StorageFull: STORAGE_FULL,
    errors.ConnectionLost: UNAVAILABLE,
    errors.SerializationFailure: UNAVAILABLE,
    errors.OutcomeUnknown: OUTCOME_UNKNOWN,
    errors.KeyInUse: KEY_IN_USE,
    errors.KeyReused: KEY_REUSED,
    errors.TimedOut: TIMED_OUT,
}

# What a client is to do, where the title does not say it.
ADVICE = {
    OUTCOME_UNKNOWN: "It may still happen within the statement timeout. Repeat it under its Idempotency-Key; if it had"
    " none, wait for that time and two seconds more before you look."
}

# Their texts come from the database, and may tell of its insides; the log has them.
SILENT = {
    errors.Conflict,
    errors.InvalidValue,
    errors.Unavailable,
    errors.SchemaMismatch,
    errors.StorageFull,
    errors.ConnectionLost,
    errors.SerializationFailure,
    errors.OutcomeUnknown,
    errors.TimedOut,
}

RETRY_AFTER: Header = (b"retry-after", b"1")
# Without Cache-Control a cache may guess how long a response is fresh, also a 404 or 405 (RFC 9111, section 4.2.2).
# With no-cache it may store the response, but asks the service before each use, which an ETag makes a 304. This is also
# for the OpenAPI document, which a new release must not be served with the old one of, and for responses to writes: no
# cache uses those without a lifetime, which this does not give (RFC 9110, section 9.3; RFC 5789, section 2). So it does
# no harm that what an Idempotency-Key replays lacks the header if it was stored before there was one.
NO_CACHE: Header = (b"cache-control", b"no-cache")
# For what says nothing of the next request: a probe's response, and every problem.
NO_STORE: Header = (b"cache-control", b"no-store")
# Where the rest of a body would stand before the next request.
CLOSE: Header = (b"connection", b"close")


class ProblemError(Exception):
    """A request that cannot be served, in the words of HTTP."""

    def __init__(
        self, kind: ProblemType, detail: str, *, faults: Sequence[FieldError] = (), headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.faults = faults
        self.headers = headers


class Rendered(NamedTuple):
    """A problem as it is sent."""

    status: int
    headers: list[Header]
    body: bytes


def render(error: Exception, request_id: str) -> Rendered:
    """Turn any exception into what its caller is told."""
    kind, detail, faults, headers = _told(error)
    problem = Problem(kind.type, kind.title, int(kind.status), detail, kind.code, faults, kind.retryable, request_id)
    sent = [(b"content-type", CONTENT_TYPE), NO_STORE, *headers]
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE or kind is KEY_IN_USE:
        sent.append(RETRY_AFTER)
    return Rendered(int(kind.status), sent, msgspec.json.encode(problem))


def _told(error: Exception) -> tuple[ProblemType, str, Sequence[FieldError], Sequence[Header]]:
    if isinstance(error, ProblemError):
        return error.kind, str(error), error.faults, error.headers
    kind = WORDS.get(type(error), INTERNAL_ERROR) if isinstance(error, errors.DatabaseError) else INTERNAL_ERROR
    silent = kind is INTERNAL_ERROR or type(error) in SILENT
    if kind in ADVICE:
        return kind, ADVICE[kind], (), ()
    return kind, f"{kind.title}." if silent else f"{str(error)[:1].upper()}{str(error)[1:]}.", (), ()
