"""Errors: a class for each group of the service's problem codes (RFC 9457), and for what no response tells."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from msgspec import Struct

from .messages import Response

PROBLEM_TYPE = "application/problem+json"


class FieldError(Struct, frozen=True):
    """What is wrong with one field: its JSON Pointer (RFC 6901) in the body, or `/name` of a parameter."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True):
    """The body of an error response; a proxy's may have less than the service's."""

    code: str = ""
    detail: str = ""
    errors: Sequence[FieldError] = ()
    retryable: bool = False
    request_id: str = ""


class ItemsError(Exception):
    """A call that failed, and the base of every error here; itself of codes that this version does not know.

    Where no problem came as a response, `code` is "", and where no response came, `status` is 0.
    """

    def __init__(self, detail: str, problem: Problem | None = None, status: int = 0) -> None:
        super().__init__(detail)
        problem = problem or Problem()
        self.detail = detail
        self.status = status
        self.code = problem.code
        self.errors = problem.errors
        self.retryable = problem.retryable
        self.request_id = problem.request_id

    def __str__(self) -> str:
        fields = "".join(f" {error.pointer}: {error.detail}." for error in self.errors)
        facts = ", ".join(filter(None, [self.code, self.request_id and f"request {self.request_id}"]))
        return f"{self.detail}{fields}{facts and f' ({facts})'}"


class Invalid(ItemsError):
    """The service refuses the values; `errors` says where."""


class Unauthorized(ItemsError):
    """The token is missing, or not valid."""


class Forbidden(ItemsError):
    """The caller may not do this."""


class NotFound(ItemsError):
    """There is no row of that id."""


class Conflict(ItemsError):
    """What is stored does not allow it."""


class AlreadyExists(Conflict):
    """Another row has this value, such as a username; `errors` names the field."""


class VersionMismatch(Conflict):
    """The row has changed since it was read."""


class RateLimited(ItemsError):
    """The caller has reached a limit, and had no time to wait until it may go on."""


class Overloaded(ItemsError):
    """Too much is waiting in the service; nothing was done."""


class Unavailable(ItemsError):
    """The service, its database, or a proxy before it cannot serve now; nothing was done."""


class ConnectionFailed(Unavailable):
    """There was no connection, or it broke before a response; of a write, nothing was sent."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, Problem(retryable=True))


class DeadlineExceeded(ItemsError, TimeoutError):
    """The time of the call was over; nothing was done."""


class OutcomeUnknown(ItemsError):
    """A write may or may not have happened. Repeated under the same `idempotency_key`, it happens once."""

    idempotency_key: str | None = None


class InternalError(ItemsError):
    """The service failed by a mistake of its own; whether a write happened is not known."""


class Incompatible(ItemsError):
    """What is at the URL does not speak this API: another version, path or proxy."""


CLASS_BY_CODE: dict[str, type[ItemsError]] = {
    "already-exists": AlreadyExists,
    "body-too-large": Invalid,
    "commit-outcome-unknown": OutcomeUnknown,
    "conflict": Conflict,
    "forbidden": Forbidden,
    "header-too-large": Invalid,
    "idempotency-key-in-use": OutcomeUnknown,  # an earlier try of the same write is not finished
    "idempotency-key-reused": Invalid,
    "internal-error": InternalError,
    "invalid-body": Invalid,
    "invalid-credentials": Unauthorized,
    "invalid-cursor": Invalid,
    "invalid-header": Invalid,
    "invalid-query": Invalid,
    "invalid-token": Unauthorized,
    "item-not-found": NotFound,
    "malformed-body": Invalid,
    "method-not-allowed": Incompatible,
    "no-such-path": Incompatible,  # no row is missing, the URL is wrong
    "not-acceptable": Incompatible,
    "not-owner": Forbidden,
    "not-ready": Unavailable,
    "overloaded": Overloaded,
    "owns-items": Conflict,
    "refused": Invalid,
    "request-timeout": DeadlineExceeded,
    "stale": VersionMismatch,
    "storage-full": Unavailable,
    "timeout": DeadlineExceeded,
    "token-not-found": NotFound,
    "too-many-requests": RateLimited,
    "too-many-tries": RateLimited,
    "unauthenticated": Unauthorized,
    "unavailable": Unavailable,
    "unknown-reference": Invalid,
    "unsupported-content-coding": Incompatible,
    "unsupported-media-type": Incompatible,
    "user-not-found": NotFound,
}
# What proxies send when the service cannot be reached through them, without a problem.
OF_PROXIES = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}

decode_problem = msgspec.json.Decoder(Problem).decode


def response_error(response: Response) -> ItemsError:
    """Return the error that a response reports."""
    status = response.status
    problem = _problem(response)
    if problem is not None:
        kind = CLASS_BY_CODE.get(problem.code, ItemsError)
        return kind(problem.detail or f"The response has the status {status}.", problem, status)
    detail = f"The response has the status {status}, and no problem."
    if status in OF_PROXIES:
        return Unavailable(detail, Problem(retryable=True), status)
    return ItemsError(detail, status=status)


def _problem(response: Response) -> Problem | None:
    if response.headers.get("Content-Type", "").partition(";")[0] != PROBLEM_TYPE:
        return None
    try:
        return decode_problem(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
