"""Problems: every error response is problem+json (RFC 9457), also for the errors of the database."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

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
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    code: Annotated[str, Meta(description="What a client may rely on; a later version may have others.")]
    errors: Sequence[FieldError]
    retryable: bool
    request_id: str


class ProblemType(NamedTuple):
    """A problem type: clients may rely on its status and code, and on whether to send the same request again."""

    status: int
    code: str
    title: str
    retryable: bool = False


MALFORMED_BODY = ProblemType(400, "malformed-body", "The body cannot be decoded")
INVALID_QUERY = ProblemType(400, "invalid-query", "A query parameter is wrong")
INVALID_CURSOR = ProblemType(400, "invalid-cursor", "The cursor does not belong here")
INVALID_HEADER = ProblemType(400, "invalid-header", "A header is malformed")
UNAUTHENTICATED = ProblemType(401, "unauthenticated", "Credentials are needed")
# Whatever is wrong with a token looks the same: that it was revoked is nothing to tell whoever has it.
INVALID_TOKEN = ProblemType(401, "invalid-token", "The token is not valid")
# Neither does it tell whether there is such a user, has a password, and may sign in.
INVALID_CREDENTIALS = ProblemType(401, "invalid-credentials", "The name or the password is wrong")
FORBIDDEN = ProblemType(403, "forbidden", "The caller may not do this")
NO_SUCH_PATH = ProblemType(404, "no-such-path", "There is nothing at this path")
METHOD_NOT_ALLOWED = ProblemType(405, "method-not-allowed", "This path has no such method")
NOT_ACCEPTABLE = ProblemType(406, "not-acceptable", "No acceptable media type")
REQUEST_TIMEOUT = ProblemType(408, "request-timeout", "The body did not arrive in time", retryable=True)
CONFLICT = ProblemType(409, "conflict", "The change conflicts with what is stored")
KEY_IN_USE = ProblemType(409, "idempotency-key-in-use", "The request with this key is not finished", retryable=True)
BODY_TOO_LARGE = ProblemType(413, "body-too-large", "The body is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemType(415, "unsupported-media-type", "The body has an unsupported media type")
UNSUPPORTED_CODING = ProblemType(415, "unsupported-content-coding", "The body has an unsupported content coding")
INVALID_BODY = ProblemType(422, "invalid-body", "The body is not what is expected here")
UNKNOWN_REFERENCE = ProblemType(422, "unknown-reference", "A field refers to what does not exist")
REFUSED = ProblemType(422, "refused", "The database refused the values")
KEY_REUSED = ProblemType(422, "idempotency-key-reused", "The idempotency key belongs to another request")
TOO_MANY_TRIES = ProblemType(429, "too-many-tries", "Too many wrong passwords were sent", retryable=True)
TOO_MANY_REQUESTS = ProblemType(429, "too-many-requests", "The caller has reached a limit", retryable=True)
HEADER_TOO_LARGE = ProblemType(431, "header-too-large", "A header is too large")
INTERNAL_ERROR = ProblemType(500, "internal-error", "The service failed")
OVERLOADED = ProblemType(503, "overloaded", "Too much is waiting", retryable=True)
UNAVAILABLE = ProblemType(503, "unavailable", "The database cannot be used now", retryable=True)
STORAGE_FULL = ProblemType(503, "storage-full", "The database has no room left", retryable=True)
NOT_READY = ProblemType(503, "not-ready", "The service is not ready", retryable=True)
# Not retryable: the same write may be made twice.
OUTCOME_UNKNOWN = ProblemType(503, "commit-outcome-unknown", "The write may or may not have happened")
TIMED_OUT = ProblemType(504, "timeout", "It took too long, and was given up", retryable=True)


@cache
def not_found(noun: str) -> ProblemType:
    """Return the problem type of an id that a resource does not have."""
    return ProblemType(404, f"{noun}-not-found", f"There is no such {noun}")


@cache
def not_owner(noun: str) -> ProblemType:
    """Return the problem type of a write to a resource that belongs to another user, or that gives it to one."""
    return ProblemType(403, "not-owner", f"The {noun} has, or would have, another owner")


@cache
def stale(noun: str) -> ProblemType:
    """Return the problem type of a write that expects another version of a resource."""
    return ProblemType(412, "stale", f"The {noun} has changed since it was read")


@cache
def already_exists(noun: str) -> ProblemType:
    """Return the problem type of a unique value that another resource of its kind has."""
    return ProblemType(409, "already-exists", f"Another {noun} has this value")


@cache
def owned(by: str) -> ProblemType:
    """Return the problem type of a deletion while rows of the table `by`, such as items, refer to what it deletes."""
    return ProblemType(409, f"owns-{by}", f"It cannot be deleted while it owns {by}")


# An error without an entry has that of its base class, if there is one; a resource's errors have its own types.
TYPE_BY_ERROR: dict[type[db_errors.DatabaseError], ProblemType | Callable[[Any], ProblemType]] = {
    db_errors.NotFound: lambda error: not_found(error.noun),
    db_errors.NotOwner: lambda error: not_owner(error.noun),
    db_errors.VersionMismatch: lambda error: stale(error.noun),
    db_errors.AlreadyExists: lambda error: already_exists(error.noun),
    db_errors.StillReferenced: lambda error: owned(error.by),
    db_errors.Conflict: CONFLICT,
    db_errors.UnknownReference: UNKNOWN_REFERENCE,
    db_errors.InvalidValue: REFUSED,
    db_errors.Overloaded: OVERLOADED,
    db_errors.Unavailable: UNAVAILABLE,
    db_errors.StatementFailed: UNAVAILABLE,
    db_errors.StorageFull: STORAGE_FULL,
    db_errors.OutcomeUnknown: OUTCOME_UNKNOWN,
    db_errors.KeyInUse: KEY_IN_USE,
    db_errors.KeyReused: KEY_REUSED,
    db_errors.TimedOut: TIMED_OUT,
}
# Other texts come from the database, and may show what is not for clients; the log has them.
SHOWN = {
    *(db_errors.NotFound, db_errors.NotOwner, db_errors.VersionMismatch, db_errors.AlreadyExists),
    *(
        db_errors.StillReferenced,
        db_errors.UnknownReference,
        db_errors.Overloaded,
        db_errors.KeyInUse,
        db_errors.KeyReused,
    ),
}

# The detail of OUTCOME_UNKNOWN, after which a client has to do something.
ADVICE = (
    "It may still happen within the statement timeout. Repeat it under its Idempotency-Key; if it had none, wait for"
    " that time and two seconds more before you look."
)

RETRY_AFTER: Header = (b"retry-after", b"1")


class ProblemError(Exception):
    """A request that cannot be served: the problem of its response, and headers to send with it."""

    def __init__(
        self, problem_type: ProblemType, detail: str, errors: Sequence[FieldError] = (), headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(detail)
        self.problem_type = problem_type
        self.errors = errors
        self.headers = headers


class Refusal(ProblemError):
    """A write that is refused for what may be otherwise later: under an idempotency key, every repeat is refused."""


def render(error: Exception, request_id: str) -> Response:
    """Return the response to an exception; what is neither a ProblemError nor in the tables above is a 500."""
    problem_error = error if isinstance(error, ProblemError) else _translate(error)
    kind, detail = problem_error.problem_type, str(problem_error)
    uri, errors = f"urn:items:problem:{kind.code}", problem_error.errors
    problem = Problem(uri, kind.title, kind.status, detail, kind.code, errors, kind.retryable, request_id)
    headers = [(b"content-type", CONTENT_TYPE), NO_STORE, *problem_error.headers]
    if kind.status == OVERLOADED.status or kind is KEY_IN_USE:
        headers.append(RETRY_AFTER)
    return Response(kind.status, headers, msgspec.json.encode(problem))


def _translate(error: Exception) -> ProblemError:
    found = next((TYPE_BY_ERROR[base] for base in type(error).__mro__ if base in TYPE_BY_ERROR), INTERNAL_ERROR)
    problem_type = found if isinstance(found, ProblemType) else found(error)
    text = str(error) if type(error) in SHOWN else problem_type.title
    text = text[:1].upper() + text[1:]
    paths: Sequence[db_errors.FieldPath] = getattr(error, "paths", ())
    errors = [FieldError("".join(f"/{step}" for step in path), text) for path in paths]
    return ProblemError(problem_type, ADVICE if problem_type is OUTCOME_UNKNOWN else f"{text}.", errors)
