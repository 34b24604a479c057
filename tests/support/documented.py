"""The OpenAPI document, and whether what the service sends is in it."""

import json
from functools import cache
from typing import Any

import httpx
import jsonschema_rs
from starlette.routing import Match

from service.openapi.document import document
from service.routes import ROUTES
from tests.support.resources import content

DOCUMENT = document(ROUTES)


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    target: dict[str, Any] = DOCUMENT
    for step in part.get("$ref", "#").split("/")[1:]:
        target = target[step]
    return target if "$ref" in part else part


def codes(response: dict[str, Any]) -> set[str]:
    """Return the codes of the problems that a response may have."""
    return {code for media in response.get("content", {}).values() for code in media["examples"]}


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Return a validator of a schema of the document."""
    whole = {**json.loads(schema), "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def check(value: Any, schema: dict[str, Any]) -> None:
    """Validate a value against a schema of the document."""
    validator(json.dumps(schema)).validate(value)


def check_headers(response: httpx.Response, documented: dict[str, Any]) -> None:
    """Find every header that is required, and none that is not documented or has another form."""
    headers = {name.lower(): resolved(header) for name, header in documented.items()}
    assert {name for name, header in headers.items() if header["required"]} <= response.headers.keys()
    for name in response.headers.keys() - {"content-type", "content-length", "server", "x-content-type-options"}:
        assert name in headers, f"{response.request.method} {response.url} has the header {name}, the document has not"
        text, schema = response.headers[name], headers[name]["schema"]
        check(int(text) if schema.get("type") == "integer" else text, schema)


def documented(method: str, path: str, status: int) -> dict[str, Any]:
    """Return what the document has of a response to a request."""
    scope = {"type": "http", "method": method, "path": path}
    [item] = [DOCUMENT["paths"][route.path_format] for route in ROUTES if route.matches(scope)[0] is Match.FULL]
    if method.lower() not in item:
        assert status == 405, (method, path, status)
        return resolved({"$ref": "#/components/responses/MethodNotAllowed"})
    responses: dict[str, Any] = item[method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} has no {status} in the document"
    return dict(responses[str(status)])


async def check_response(response: httpx.Response) -> None:
    """Find a response in the document: its status, its headers, its body, and the code of a problem."""
    await response.aread()
    method, path = response.request.method, response.request.url.path
    described = documented(method, path, response.status_code)
    check_headers(response, described["headers"])
    if method != "HEAD" and "content" not in described:
        assert "content-type" not in response.headers
    if method == "HEAD" or "content" not in described:
        assert response.content == b"", (method, path, response.content)
        return
    value = content(response)
    check(value, described["content"][response.headers["content-type"]]["schema"])
    assert response.status_code < 400 or value["code"] in codes(described), (method, path, value)
