"""Problems: every error response is problem+json (RFC 9457); one table maps database errors to problem types."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from msgspec import Struct

from db import errors as db_errors
from service.http.response import NO_STORE, Header, Response

CONTENT_TYPE = b"application/problem+json"


class FieldError(Struct, frozen=True):
    """What is wrong with one field: its JSON Pointer (RFC 6901) in the body, or `/name` of a parameter."""

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
    """A problem type: clients may rely on its status and code, and on whether to send the same request again."""

    status: HTTPStatus
    code: str
    title: str
    retryable: bool = False

    @property
    def type(self) -> str:
        """Return the URI of the problem type."""
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

TYPE_BY_ERROR: dict[type[db_errors.DatabaseError], ProblemType] = {
    db_errors.NotFound: ITEM_NOT_FOUND,
    db_errors.VersionMismatch: STALE,
    db_errors.Conflict: CONFLICT,
    db_errors.InvalidValue: REFUSED,
    db_errors.Overloaded: OVERLOADED,
    db_errors.Unavailable: UNAVAILABLE,
    db_errors.SchemaMismatch: UNAVAILABLE,
    db_errors.StorageFull: STORAGE_FULL,
    db_errors.ConnectionLost: UNAVAILABLE,
    db_errors.SerializationFailure: UNAVAILABLE,
    db_errors.OutcomeUnknown: OUTCOME_UNKNOWN,
    db_errors.KeyInUse: KEY_IN_USE,
    db_errors.KeyReused: KEY_REUSED,
    db_errors.TimedOut: TIMED_OUT,
}

# The detail of a problem after which a client has to do something.
ADVICE = {
    OUTCOME_UNKNOWN: "It may still happen within the statement timeout. Repeat it under its Idempotency-Key; if it had"
    " none, wait for that time and two seconds more before you look."
}

# Their texts come from the database, and may show what is not for clients; the log has them.
NOT_SHOWN = {
    db_errors.Conflict,
    db_errors.InvalidValue,
    db_errors.Unavailable,
    db_errors.SchemaMismatch,
    db_errors.StorageFull,
    db_errors.ConnectionLost,
    db_errors.SerializationFailure,
    db_errors.OutcomeUnknown,
    db_errors.TimedOut,
}

RETRY_AFTER: Header = (b"retry-after", b"1")


class ProblemError(Exception):
    """A request that cannot be served: the problem of its response, and headers to send with it."""

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Sequence[Header] = (),
    ) -> None:
        super().__init__(detail)
        self.problem_type = problem_type
        self.errors = errors
        self.headers = headers


def render(error: Exception, request_id: str) -> Response:
    """Return the response to an exception; what is neither a ProblemError nor in TYPE_BY_ERROR is a 500."""
    problem_error = error if isinstance(error, ProblemError) else _translate(error)
    problem_type = problem_error.problem_type
    problem = Problem(
        type=problem_type.type,
        title=problem_type.title,
        status=int(problem_type.status),
        detail=str(problem_error),
        code=problem_type.code,
        errors=problem_error.errors,
        retryable=problem_type.retryable,
        request_id=request_id,
    )
    headers = [(b"content-type", CONTENT_TYPE), NO_STORE, *problem_error.headers]
    if problem_type.status == HTTPStatus.SERVICE_UNAVAILABLE or problem_type is KEY_IN_USE:
        headers.append(RETRY_AFTER)
    return Response(int(problem_type.status), headers, msgspec.json.encode(problem))


def _translate(error: Exception) -> ProblemError:
    problem_type = INTERNAL_ERROR
    if isinstance(error, db_errors.DatabaseError):
        problem_type = TYPE_BY_ERROR.get(type(error), INTERNAL_ERROR)
    text = str(error)
    if problem_type is INTERNAL_ERROR or type(error) in NOT_SHOWN:
        text = problem_type.title
    return ProblemError(problem_type, ADVICE.get(problem_type, f"{text[:1].upper()}{text[1:]}."))
