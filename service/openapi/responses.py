"""The responses of an operation: each status, with its headers, its content and its examples."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from types import NoneType
from typing import Any, NamedTuple

import msgspec

from service.http import problems
from service.http.media_types import MEDIA_TYPES, OFFERED
from service.http.middleware import REQUEST_ID
from service.http.operation import SAFE, Operation
from service.http.problems import FieldError, ProblemError, ProblemType
from service.http.response import NO_CACHE, NO_STORE
from service.openapi.schemas import Schema, Schemas

REQUEST_ID_EXAMPLE = "order-7.1"
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}


class HeaderDescription(NamedTuple):
    """A header of a response, as the document describes it."""

    description: str
    schema: Schema


HEADERS = {
    "X-Request-ID": HeaderDescription("The request's id.", TEXT | {"pattern": f"^{REQUEST_ID.pattern.decode()}$"}),
    "Vary": HeaderDescription("What else the response depends on.", {"const": "Accept"}),
    "Cache-Control": HeaderDescription(
        "What a cache may do: `no-cache`, ask again before each use; `no-store`, not store it.",
        {"enum": [NO_CACHE[1].decode(), NO_STORE[1].decode()]},
    ),
    "ETag": HeaderDescription(
        "The item's version, in this media type.",
        TEXT | {"pattern": f'^"[1-9][0-9]*-({"|".join(media_type.name for media_type in MEDIA_TYPES)})"$'},
    ),
    "Allow": HeaderDescription("The methods of this path.", TEXT),
    "Accept": HeaderDescription("The media types that a body may have.", {"const": OFFERED}),
    "Retry-After": HeaderDescription("How many seconds to wait.", NUMBER),
    "Idempotency-Replayed": HeaderDescription(
        "The write was made before, and this was its response.", {"const": "true"}
    ),
}
OPTIONAL = {"Idempotency-Replayed"}
ALWAYS = ("Cache-Control", "X-Request-ID")
# The headers that an operation declares are text, but for these.
DECLARED = {"Location": TEXT | {"format": "uri-reference"}, "X-Total-Count": NUMBER}

PROBLEM_HEADERS = {
    HTTPStatus.METHOD_NOT_ALLOWED: ["Allow"],
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ["Accept"],
    HTTPStatus.SERVICE_UNAVAILABLE: ["Retry-After"],
}
PROBLEM_TYPES = [value for value in vars(problems).values() if isinstance(value, ProblemType)]
FIELD_ERRORS = {
    problems.INVALID_BODY: FieldError("/price", "Expected `float` >= 0.0"),
    problems.INVALID_QUERY: FieldError("/limit", "Expected `int` <= 1000"),
}


def components() -> dict[str, Any]:
    """Return the components of responses: headers, examples, and the response to a method that a path lacks."""
    return {
        "headers": {name: describe_header(header, required=name not in OPTIONAL) for name, header in HEADERS.items()},
        "responses": {"MethodNotAllowed": problem_response([problems.METHOD_NOT_ALLOWED])},
        "examples": {one.code: problem_example(one) for one in PROBLEM_TYPES},
    }


def responses(method: str, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """Return the responses of an operation, by status."""
    found = {operation.status: success(operation, schemas)}
    if method not in SAFE:
        found[operation.status]["headers"]["Idempotency-Replayed"] = reference("Idempotency-Replayed")
    if is_conditional_read(method, operation, schemas):
        status = HTTPStatus.NOT_MODIFIED
        found[status] = {"description": status.phrase, "headers": references("ETag", "Vary", *ALWAYS)}
    possible = list(possible_problems(method, operation, schemas))
    for status in sorted({one.status for one in possible}):
        found[status] = problem_response([one for one in possible if one.status == status])
    return {str(int(status)): response for status, response in found.items()}


def is_conditional_read(method: str, operation: Operation, schemas: Schemas) -> bool:
    """Return whether an operation evaluates If-None-Match."""
    return method == "GET" and all(map(has_version, schemas.forms(operation.result)))


def has_version(form: Schema) -> bool:
    """Return whether a value of a schema is sent with an ETag."""
    return "version" in form.get("properties", {})


def success(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    """Return the response of an operation that succeeds."""
    phrase = HTTPStatus(operation.status).phrase
    if operation.result is NoneType:
        return {"description": phrase, "headers": references(*ALWAYS)}
    headers = {
        name: describe_header(HeaderDescription(text, DECLARED.get(name, TEXT)), required=False)
        for name, text in operation.headers.items()
    }
    versioned = [has_version(form) for form in schemas.forms(operation.result)]
    if any(versioned):
        headers["ETag"] = reference("ETag") if all(versioned) else describe_header(HEADERS["ETag"], required=False)
    headers |= references("Vary", *ALWAYS)
    return {"description": phrase, "headers": headers, "content": schemas.content(operation.result)}


def describe_header(header: HeaderDescription, *, required: bool = True) -> dict[str, Any]:
    """Return the description of a header."""
    return {"description": header.description, "required": required, "schema": header.schema}


def reference(name: str) -> dict[str, Any]:
    """Return a reference to a header."""
    return {"$ref": f"#/components/headers/{name}"}


def references(*names: str) -> dict[str, Any]:
    """Return references to headers, by name."""
    return {name: reference(name) for name in names}


def problem_response(problem_types: Sequence[ProblemType]) -> dict[str, Any]:
    """Return the response for the problem types of one status."""
    problem = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {one.code: {"$ref": f"#/components/examples/{one.code}"} for one in problem_types},
    }
    return {
        "description": " ".join(f"{one.title}." for one in problem_types),
        "headers": references(*PROBLEM_HEADERS.get(problem_types[0].status, ()), *ALWAYS),
        "content": {problems.CONTENT_TYPE.decode(): problem},
    }


def problem_example(problem_type: ProblemType) -> dict[str, Any]:
    """Return an example of a problem, made as one is sent."""
    errors = [FIELD_ERRORS[problem_type]] if problem_type in FIELD_ERRORS else []
    response = problems.render(ProblemError(problem_type, f"{problem_type.title}.", errors=errors), REQUEST_ID_EXAMPLE)
    return {"summary": problem_type.title, "value": msgspec.json.decode(response.body)}


def possible_problems(method: str, operation: Operation, schemas: Schemas) -> Iterator[ProblemType]:
    """Yield the problem types of an operation: of wrong requests, and of a database that cannot serve them."""
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
