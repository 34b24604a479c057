"""The OpenAPI 3.1 document, made from ROUTES: served as /openapi.json, printed by `python -m service openapi`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from starlette.routing import Route

from service.http.headers import ENTITY_TAG, IDEMPOTENCY_KEY, TimeLimit
from service.http.media_types import OFFERED
from service.http.middleware import REQUEST_ID
from service.http.operation import SAFE, Operation, Resource
from service.http.probe import Probe
from service.http.problems import CONTENT_TYPE, Problem
from service.openapi.responses import REQUEST_ID_EXAMPLE, TEXT, Endpoint, Responses
from service.openapi.schemas import Schema, Schemas

VERSION = "0.1.0"
LICENSE = {"name": "MIT", "identifier": "MIT"}
DESCRIPTION = f"""\
Stores resources, and serves them to other services: all in the same way.

- **Media types**: bodies and responses are {OFFERED.replace(", ", " or ")}, by `Content-Type` and `Accept`. What is a
  `date-time` in JSON is a timestamp in MessagePack.
- **Problems**: every error is {CONTENT_TYPE.decode()} (RFC 9457). Rely on `status`, `code` and `retryable`; `errors`
  has a JSON Pointer to each error in the request.
- **Callers** send a token, or have a client certificate, where the service runs with authentication. Without a valid
  one a request is a 401 before all else; without the scope that its operation needs, a 403. A writer changes what it
  owns or what nobody owns.
- **Limits**: a caller may have limits; then every response has `RateLimit-Policy` and `RateLimit`, and what is beyond
  them is a 429 with `Retry-After`.
- **Integers** are written in digits alone, wherever they stand: `1.0` and `1e0` are none.
- **Everywhere**: an unknown path is a 404, a method that a path does not have is a 405 with `Allow`, and a query
  parameter that is unknown is a 400, as is one that is repeated and no list. Probes disregard both.
- **Batches** are written all or nothing.
- **Repeats**: with an `Idempotency-Key`, a write happens once; a repeat has the first response, and
  `Idempotency-Replayed`. Without one, never repeat after `commit-outcome-unknown` without having looked, and never look
  before the statement timeout and two seconds are over.
"""

# By the way in, as ITEMSVC_AUTH names it.
SECURITY_SCHEMES: dict[str, tuple[str, Schema]] = {
    "tokens": (
        "bearer",
        {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of a user, `itm_...`. With `ITEMSVC_AUTH=off` none is needed or looked at.",
        },
    ),
    "jwt": (
        "jwt",
        {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of the issuer that the service trusts, which names a user.",
        },
    ),
    "mtls": (
        "mtls",
        {"type": "mutualTLS", "description": "A client certificate of a CA that the service trusts, in a user's name."},
    ),
}
BASIC = "basic"
BASIC_SCHEME = {
    "type": "http",
    "scheme": BASIC,
    "description": "A username or an email, and the password, in UTF-8: for a token, and nothing else.",
}
TAGS = TEXT | {"pattern": rf"^(\s*\*\s*|({ENTITY_TAG.pattern})*)$", "examples": ['"1-json"']}
REQUEST_HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": (
        f"The id of the request in its response and in logs; replaced unless it is `{REQUEST_ID.pattern.decode()}`.",
        TEXT | {"examples": [REQUEST_ID_EXAMPLE]},
    ),
    "X-Request-Timeout": (
        "How many seconds the client waits for the response; the service's own limit may be shorter.",
        Schemas().of(TimeLimit),
    ),
    "Idempotency-Key": (
        "A key of the client's own: the write happens once, and a repeat has the first response.",
        TEXT | {"pattern": f"^{IDEMPOTENCY_KEY.pattern.decode()}$", "examples": ["8e03978e-40d5-43dd-bc93"]},
    ),
}


def document(routes: Sequence[Route], auth: Collection[str] = ()) -> dict[str, Any]:
    """Return the OpenAPI document of routes. `auth` has the ways in; a caller needs none if there is none."""
    schemes = dict(scheme for way, scheme in SECURITY_SCHEMES.items() if way in (auth or ("tokens",)))
    security: list[dict[str, Any]] = [*({name: []} for name in schemes), *([] if auth else [{}])]
    schemas = Schemas()
    schemas.of(Problem)
    responses = Responses(schemas)
    paths = {route.path_format: path_item(route, schemas, responses, security) for route in routes}
    components = responses.components()
    schemas.components["Problem"]["properties"]["code"]["enum"] = responses.codes
    operations = [operation for route in routes for operation in resource_of(route).operations.values()]
    tags = dict.fromkeys(operation.described.tag for operation in operations)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Item service", "version": VERSION, "description": DESCRIPTION, "license": LICENSE},
        "servers": [{"url": ".", "description": "Relative to where this document is served."}],
        "tags": [tag._asdict() for tag in tags],
        "security": [],  # of operations that name none
        "paths": paths,
        "components": {
            "securitySchemes": schemes | {BASIC: BASIC_SCHEME},
            "schemas": schemas.components,
            "parameters": {name: request_header(name, *described) for name, described in REQUEST_HEADERS.items()},
            **components,
        },
    }


def path_item(
    route: Route, schemas: Schemas, responses: Responses, security: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the path item of a route: each of its methods, and HEAD where there is GET."""
    resource = resource_of(route)
    methods = {
        method.lower(): describe_operation(Endpoint(resource.noun, method, operation), schemas, responses)
        | required_credentials(operation, security)
        for method, operation in resource.operations.items()
    }
    return {**methods, "head": without_content(methods["get"])} if "get" in methods else methods


def resource_of(route: Route) -> Resource:
    """Return the application of a route."""
    assert isinstance(route.endpoint, Resource)  # noqa: S101 - narrows the type
    return route.endpoint


def describe_operation(endpoint: Endpoint, schemas: Schemas, responses: Responses) -> dict[str, Any]:
    """Return the description of an operation."""
    operation = endpoint.operation
    content = schemas.content(operation.body, operation.body_types.by_name) if operation.body else {}
    body = {"requestBody": {"required": True, "content": content}} if content else {}
    return {
        "operationId": operation.described.name,
        "summary": operation.described.summary,
        "description": "\n\n".join(filter(None, (operation.described.description, needs(operation)))),
        "tags": [operation.described.tag.name],
        "parameters": list(parameters(endpoint, schemas)),
        **body,
        "responses": responses.of(endpoint),
    }


def needs(operation: Operation) -> str:
    """Return a sentence of what an operation needs of its caller."""
    if operation.by_password:
        return "Needs a name and a password, in each request."
    if operation.scope is None:
        return ""
    own = " Without it, callers may do so with their own." if operation.has_own else ""
    return f"Needs the scope `{operation.scope}`.{own}"


def required_credentials(operation: Operation, security: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the security of an operation; an empty member of `security` means that it may need nothing."""
    if operation.by_password:
        return {"security": [{BASIC: []}]}
    return {} if operation.scope is None else {"security": security}


def without_content(get: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of HEAD: that of GET, its responses without content."""
    responses_to_head = {
        status: {name: part for name, part in response.items() if name != "content"}
        for status, response in get["responses"].items()
    }
    summary = f"{get['summary'].removesuffix('.')}: only the headers."
    return {**get, "operationId": f"{get['operationId']}_headers", "summary": summary, "responses": responses_to_head}


def parameters(endpoint: Endpoint, schemas: Schemas) -> Iterator[dict[str, Any]]:
    """Yield the parameters of an operation: of its path and query, and headers."""
    noun, method, operation = endpoint
    for name, kind in operation.path.items():
        yield parameter("path", name, schemas.of(kind), required=True)
    for fields in Schemas().forms(operation.query):
        for name, schema in fields["properties"].items():
            yield parameter("query", name, schema, required=name in fields["required"])
    if operation.conditional:
        yield request_header("If-Match", f"Only while the {noun} has one of these tags, weak or not; else 412.", TAGS)
    if endpoint.is_conditional_read:
        yield request_header("If-None-Match", f"Only if the {noun} has none of these tags; else 304.", TAGS)
    omitted = {
        *(["Idempotency-Key"] if method in SAFE else []),
        *(["X-Request-Timeout"] if isinstance(operation, Probe) else []),
    }
    names = [name for name in REQUEST_HEADERS if name not in omitted]
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in names)


def parameter(place: str, name: str, schema: Schema, *, required: bool) -> dict[str, Any]:
    """Return the description of a parameter; several values are written with commas."""
    style = {"style": "form", "explode": False} if schema.get("type") == "array" else {}
    description = schema.pop("description", "")
    return {"name": name, "in": place, "description": description, "required": required, **style, "schema": schema}


def request_header(name: str, description: str, schema: Schema) -> dict[str, Any]:
    """Return the description of a request header."""
    return parameter("header", name, schema | {"description": description}, required=False)
