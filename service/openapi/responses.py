"""The responses of an operation: each status, with its headers, its content and its examples."""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from service.http import problems
from service.http.media_types import JSON, MEDIA_TYPES, MERGE_PATCH, OFFERED
from service.http.middleware import REQUEST_ID
from service.http.operation import SAFE, Operation
from service.http.probe import Probe
from service.http.problems import FieldError, ProblemError, ProblemType
from service.http.response import NO_CACHE, NO_STORE
from service.http.validation import struct_fields
from service.openapi.schemas import Schema, Schemas

REQUEST_ID_EXAMPLE = "order-7.1"
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "format": "int64", "minimum": 0}
ETAG = TEXT | {"pattern": f'^"[1-9][0-9]*-({"|".join(one.name for one in MEDIA_TYPES)})(-[0-9a-f]+)?"$'}
ETAG_TEXT = "The {}'s version, in this media type."
CACHE_CONTROL = TEXT | {"enum": [NO_CACHE[1].decode(), NO_STORE[1].decode()]}

# The headers of responses: their descriptions and schemas, and those that a response may lack.
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": ("The request's id.", TEXT | {"pattern": f"^{REQUEST_ID.pattern.decode()}$"}),
    "Vary": ("What else the response depends on.", TEXT | {"const": "Accept"}),
    "Cache-Control": ("`no-cache`: to be asked for before each use; `no-store`: not to be stored.", CACHE_CONTROL),
    "WWW-Authenticate": ("What the header Authorization must have (RFC 6750, RFC 7617).", TEXT),
    "Allow": ("The methods of this path.", TEXT),
    "Accept": ("The media types that a body may have.", TEXT | {"enum": [OFFERED, MERGE_PATCH.offered]}),
    "Accept-Encoding": ("The content codings that a body may have.", TEXT | {"const": "identity"}),
    "Accept-Patch": ("The media types that a patch may have.", TEXT | {"enum": [OFFERED, MERGE_PATCH.offered]}),
    "RateLimit-Policy": ("The caller's limits, of each worker (draft-ietf-httpapi-ratelimit-headers-10).", TEXT),
    "RateLimit": ("What is left of them.", TEXT),
    "Retry-After": ("How many seconds to wait.", NUMBER),
    "Idempotency-Replayed": ("The write was made before, and this was its response.", TEXT | {"const": "true"}),
    "Link": ("The next page, if there is one, relative to the request's URL.", TEXT),
    "X-Total-Count": ("How many the list has, if `count` asks for it.", NUMBER),
}
OPTIONAL = {"Accept", "Accept-Encoding", "Accept-Patch", "Idempotency-Replayed", "Link", "X-Total-Count"}
OPTIONAL |= {"RateLimit-Policy", "RateLimit"}
REFERENCE = re.compile("_(id|to)$")  # the names of fields that refer to another resource, for examples
ALWAYS = ("Cache-Control", "X-Request-ID")
RATE_LIMIT = ["RateLimit-Policy", "RateLimit"]  # on every response to a caller with a limit
REFUSALS = {403, 404, 409, 412, 422}  # what the database may refuse a write with, which a repeat gets again
PROBLEM_HEADERS = {
    401: ["WWW-Authenticate"],
    405: ["Allow", "Accept-Patch"],
    415: ["Accept", "Accept-Encoding"],
    429: ["Retry-After"],
    503: ["Retry-After"],
}


class Endpoint(NamedTuple):
    """One method of one path, and the noun of its resource."""

    noun: str
    method: str
    operation: Operation

    @property
    def is_conditional_read(self) -> bool:
        """Return whether If-None-Match is evaluated."""
        return self.method == "GET" and all(self.operation.tagged)


class Responses:
    """Makes the responses of operations, and collects the components that they refer to."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._examples: dict[str, Any] = {}

    def components(self) -> dict[str, Any]:
        """Return the components of responses: headers, examples, and the response to a method that a path lacks."""
        headers = {name: header(*described, required=name not in OPTIONAL) for name, described in HEADERS.items()}
        not_allowed = self._problem(None, [problems.METHOD_NOT_ALLOWED])
        return {"headers": headers, "responses": {"MethodNotAllowed": not_allowed}, "examples": self._examples}

    @property
    def codes(self) -> list[str]:
        """Return the codes of the problems that have been described."""
        return sorted({example["value"]["code"] for example in self._examples.values()})

    def of(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the responses of an operation, by status."""
        found = {endpoint.operation.status: self._success(endpoint)}
        if endpoint.is_conditional_read:
            names = ["Vary", *ALWAYS, *(RATE_LIMIT if endpoint.operation.scope else [])]
            headers = {"ETag": header(ETAG_TEXT.format(endpoint.noun), ETAG), **references(*names)}
            found[304] = {"description": HTTPStatus(304).phrase, "headers": headers}
        possible = sorted(set(possible_problems(endpoint)))
        for status, problem_types in groupby(possible, attrgetter("status")):
            found[status] = self._problem(endpoint, list(problem_types))
        return {str(status): response for status, response in found.items()}

    def _success(self, endpoint: Endpoint) -> dict[str, Any]:
        noun, method, operation = endpoint
        forms = self._schemas.forms(operation.result)
        is_tagged = all(operation.tagged)
        headers = {}
        if operation.location:
            which = "" if is_tagged else ", if the body is one"
            text = f"Where the new {noun} is, relative to the request's URL{which}."
            headers["Location"] = header(text, TEXT | {"format": "uri-reference"}, required=is_tagged)
        if any(operation.tagged):
            headers["ETag"] = header(ETAG_TEXT.format(noun), ETAG, required=is_tagged)
        names = ["Link", "X-Total-Count"] if "after" in struct_fields(operation.query) else []
        names += ["Idempotency-Replayed"] if method not in SAFE else []
        names += ["Vary", *ALWAYS] if forms else ALWAYS
        names += RATE_LIMIT if operation.scope else []
        content = {"content": self._schemas.content(operation.result)} if forms else {}
        phrase = HTTPStatus(operation.status).phrase
        return {"description": phrase, "headers": headers | references(*names), **content}

    def _problem(self, endpoint: Endpoint | None, problem_types: Sequence[ProblemType]) -> dict[str, Any]:
        """Return the response for the problem types of one status."""
        status = problem_types[0].status
        names = [*PROBLEM_HEADERS.get(status, ()), *ALWAYS]
        if endpoint and endpoint.method == "PATCH" and status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            names.append("Accept-Patch")
        if endpoint and endpoint.method not in SAFE and status in REFUSALS:
            names.append("Idempotency-Replayed")
        if endpoint and endpoint.operation.scope and status != HTTPStatus.UNAUTHORIZED:
            names += RATE_LIMIT
        keys = {one.code: self._example(endpoint, one) for one in problem_types}
        content = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {code: {"$ref": f"#/components/examples/{key}"} for code, key in keys.items()},
        }
        return {
            "description": " ".join(f"{one.title}." for one in problem_types),
            "headers": references(*names),
            "content": {problems.CONTENT_TYPE.decode(): content},
        }

    def _example(self, endpoint: Endpoint | None, problem_type: ProblemType) -> str:
        """Make an example of a problem as one is sent, and return its key; a resource may need one of its own."""
        errors = self._field_errors(endpoint.operation, problem_type) if endpoint else ()
        error = ProblemError(problem_type, f"{problem_type.title}.", errors)
        value = msgspec.json.decode(problems.render(error, REQUEST_ID_EXAMPLE).body)
        example = {"summary": problem_type.title, "value": value}
        key = problem_type.code
        if endpoint and self._examples.get(key, example) != example:
            key += f"-{endpoint.noun}"
        self._examples.setdefault(key, example)
        return key

    def _field_errors(self, operation: Operation, problem_type: ProblemType) -> Sequence[FieldError]:
        """Return the errors of an example, in fields of the operation's own."""
        names = [name for name in struct_fields(operation.body) if name not in {"id", "version"}]
        if problem_type == problems.INVALID_BODY:
            body = self._schemas.example(self._schemas.forms(operation.body)[0])
            (body[0] if isinstance(body, list) else body)[names[0]] = []
            return operation.body_decoder.field_errors(JSON, JSON.encode(body))
        referring = [name for name in names or struct_fields(operation.query) if REFERENCE.search(name)]
        wrong = {
            "not-owner": referring,
            "invalid-query": ["colour"],
            "already-exists": names,
            "unknown-reference": referring,
        }
        return [FieldError(f"/{name}", problem_type.title) for name in wrong.get(problem_type.code, [])[:1]]


def possible_problems(endpoint: Endpoint) -> Iterator[ProblemType]:
    """Yield the problem types of an operation: of wrong requests, and of a database that cannot serve them."""
    noun, method, operation = endpoint
    fields = struct_fields(operation.body)
    yield problems.INTERNAL_ERROR
    if not isinstance(operation, Probe):
        yield from (problems.INVALID_QUERY, problems.INVALID_HEADER, problems.HEADER_TOO_LARGE)
        if operation.has_content:
            yield problems.NOT_ACCEPTABLE
    yield from caller_problems(endpoint)
    if operation.path:
        yield problems.NO_SUCH_PATH
    if operation.path or "id" in fields:
        yield problems.not_found(noun)
    if operation.conditional or "version" in fields:
        yield problems.stale(noun)
    if "after" in struct_fields(operation.query):
        yield problems.INVALID_CURSOR
    if operation.body:
        yield from (problems.MALFORMED_BODY, problems.REQUEST_TIMEOUT, problems.BODY_TOO_LARGE)
        yield from (problems.UNSUPPORTED_MEDIA_TYPE, problems.UNSUPPORTED_CODING)
        yield from (problems.INVALID_BODY, problems.REFUSED, problems.CONFLICT)
    if operation.takes_call:  # then the database is asked
        yield from (problems.OVERLOADED, problems.UNAVAILABLE, problems.TIMED_OUT)
        if method not in SAFE:
            yield from (problems.OUTCOME_UNKNOWN, problems.STORAGE_FULL, problems.KEY_IN_USE, problems.KEY_REUSED)
    yield from operation.problems


def caller_problems(endpoint: Endpoint) -> Iterator[ProblemType]:
    """Yield the problem types of an operation whose caller is unknown, or may not do what it asks for."""
    if endpoint.operation.scope:
        yield from (problems.UNAUTHENTICATED, problems.INVALID_TOKEN, problems.FORBIDDEN, problems.NOT_READY)
        yield problems.TOO_MANY_REQUESTS
    if endpoint.operation.for_owner:
        yield problems.not_owner(endpoint.noun)


def header(description: str, schema: Schema, *, required: bool = True) -> dict[str, Any]:
    """Return the description of a header."""
    return {"description": description, "required": required, "schema": schema}


def references(*names: str) -> dict[str, Any]:
    """Return references to headers, by name."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
