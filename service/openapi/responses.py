"""What an operation may answer: each status, with its headers, its content and its examples."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from types import NoneType
from typing import Any, NamedTuple

import msgspec

from service.http import problems
from service.http.media_types import MEDIA_TYPES, OFFERED
from service.http.middleware import REQUEST_ID
from service.http.operation import SAFE, Operation
from service.http.problems import NO_CACHE, NO_STORE, FieldError, ProblemError, ProblemType
from service.openapi.schemas import Schema, Schemas

REQUEST_ID_EXAMPLE = "order-7.1"
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}


class Header(NamedTuple):
    """A header of an answer."""

    description: str
    schema: Schema


HEADERS = {
    "X-Request-ID": Header("The request's id.", TEXT | {"pattern": f"^{REQUEST_ID.pattern.decode()}$"}),
    "Vary": Header("What else the answer depends on.", {"const": "Accept"}),
    "Cache-Control": Header(
        "What a cache may do: `no-cache`, ask again before each use; `no-store`, not keep it.",
        {"enum": [NO_CACHE[1].decode(), NO_STORE[1].decode()]},
    ),
    "ETag": Header(
        "The item's version, in this media type.",
        TEXT | {"pattern": f'^"[1-9][0-9]*-({"|".join(media.name for media in MEDIA_TYPES)})"$'},
    ),
    "Allow": Header("The methods of this path.", TEXT),
    "Accept": Header("The media types that a body may have.", {"const": OFFERED}),
    "Retry-After": Header("How many seconds to wait.", NUMBER),
    "Idempotency-Replayed": Header("The write was made before, and this was its answer.", {"const": "true"}),
}
OPTIONAL = {"Idempotency-Replayed"}
ALWAYS = ("Cache-Control", "X-Request-ID")
# What operations declare of themselves is text, but for these.
DECLARED = {"Location": TEXT | {"format": "uri-reference"}, "X-Total-Count": NUMBER}

PROBLEM_HEADERS = {
    HTTPStatus.METHOD_NOT_ALLOWED: ["Allow"],
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ["Accept"],
    HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After"],
}
KINDS = [value for value in vars(problems).values() if isinstance(value, ProblemType)]
FAULTS = {
    problems.INVALID_BODY: FieldError("/price", "Expected `float` >= 0.0"),
    problems.INVALID_QUERY: FieldError("/limit", "Expected `int` <= 1000"),
}


def components() -> dict[str, Any]:
    """Describe what responses refer to, and the one that every path has for the methods that it lacks."""
    return {
        "headers": {name: described(header, required=name not in OPTIONAL) for name, header in HEADERS.items()},
        "responses": {"MethodNotAllowed": problem_response([problems.METHOD_NOT_ALLOWED])},
        "examples": {kind.code: problem_example(kind) for kind in KINDS},
    }


def responses(method: str, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """Describe what an operation may answer, by status."""
    found = {operation.status: success(operation, schemas)}
    if method not in SAFE:
        found[operation.status]["headers"]["Idempotency-Replayed"] = reference("Idempotency-Replayed")
    if is_conditional_read(method, operation, schemas):
        status = HTTPStatus.NOT_MODIFIED
        found[status] = {"description": status.phrase, "headers": references("ETag", "Vary", *ALWAYS)}
    kinds = list(raised(method, operation, schemas))
    for status in sorted({kind.status for kind in kinds}):
        found[status] = problem_response([kind for kind in kinds if kind.status == status])
    return {str(int(status)): response for status, response in found.items()}


def is_conditional_read(method: str, operation: Operation, schemas: Schemas) -> bool:
    """Whether If-None-Match is heeded."""
    return method == "GET" and all(map(has_version, schemas.forms(operation.result)))


def has_version(form: Schema) -> bool:
    """Whether a value is sent with an ETag."""
    return "version" in form.get("properties", {})


def success(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """Describe what an operation answers if all goes well."""
    phrase = HTTPStatus(operation.status).phrase
    if operation.result is NoneType:
        return {"description": phrase, "headers": references(*ALWAYS)}
    headers = {
        name: described(Header(text, DECLARED.get(name, TEXT)), required=False)
        for name, text in operation.headers.items()
    }
    versioned = [has_version(form) for form in schemas.forms(operation.result)]
    if any(versioned):
        headers["ETag"] = reference("ETag") if all(versioned) else described(HEADERS["ETag"], required=False)
    headers |= references("Vary", *ALWAYS)
    return {"description": phrase, "headers": headers, "content": schemas.content(operation.result)}


def described(header: Header, *, required: bool = True) -> dict[str, Any]:
    """Describe a header."""
    return {"description": header.description, "required": required, "schema": header.schema}


def reference(name: str) -> dict[str, Any]:
    """Refer to a header."""
    return {"$ref": f"#/components/headers/{name}"}


def references(*names: str) -> dict[str, Any]:
    """Refer to headers, by name."""
    return {name: reference(name) for name in names}


def problem_response(kinds: Sequence[ProblemType]) -> dict[str, Any]:
    """Describe the problems that share a status."""
    problem = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in kinds},
    }
    return {
        "description": " ".join(f"{kind.title}." for kind in kinds),
        "headers": references(*PROBLEM_HEADERS.get(kinds[0].status, ()), *ALWAYS),
        "content": {problems.CONTENT_TYPE.decode(): problem},
    }


def problem_example(kind: ProblemType) -> dict[str, Any]:
    """Show a problem as it is sent."""
    error = ProblemError(kind, f"{kind.title}.", faults=[FAULTS[kind]] if kind in FAULTS else [])
    rendered = problems.render(error, REQUEST_ID_EXAMPLE)
    return {"summary": kind.title, "value": msgspec.json.decode(rendered.body)}


def raised(method: str, operation: Operation, schemas: Schemas) -> Iterator[ProblemType]:
    """List the problems that an operation may end in: what it takes can be wrong, and what it asks can be away."""
    yield from (problems.INVALID_QUERY, problems.NOT_ACCEPTABLE, problems.HEADER_TOO_LARGE, problems.INTERNAL_ERROR)
    if operation.path:
        yield from (problems.NO_SUCH_PATH, problems.ITEM_NOT_FOUND)
    if method != "GET" or is_conditional_read(method, operation, schemas):
        yield problems.INVALID_HEADER
    if operation.conditional:
        yield problems.STALE
    if operation.body:
        yield from (problems.MALFORMED_BODY, problems.REQUEST_TIMEOUT, problems.BODY_TOO_LARGE)
        yield from (problems.UNSUPPORTED_MEDIA_TYPE, problems.INVALID_BODY, problems.REFUSED, problems.CONFLICT)
    if operation.path or operation.query or operation.body:  # then the database is asked
        yield from (problems.OVERLOADED, problems.UNAVAILABLE, problems.TIMED_OUT)
        if method not in SAFE:
            yield from (problems.OUTCOME_UNKNOWN, problems.STORAGE_FULL, problems.KEY_IN_USE, problems.KEY_REUSED)
    yield from operation.problems
