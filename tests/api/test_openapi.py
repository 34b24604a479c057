"""The OpenAPI document: valid, complete, and true of the service that is running."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jsonschema_rs
import msgspec
import openapi_spec_validator
import pytest

from service.http import problems
from service.http.media_types import JSON, MEDIA_TYPES, MediaType
from service.http.operation import Operation, Resource
from service.http.problems import Problem, ProblemType
from service.http.query import QueryDecoder
from service.openapi.document import document
from service.routes import ROUTES

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = document(ROUTES)
KINDS = [value for value in vars(problems).values() if isinstance(value, ProblemType)]

LAMP = {"name": "lamp", "price": 9.5}
# In this order, on an empty database, every success that is documented: the operation's path, and the request.
SUCCESSES: list[tuple[str, str, str, Any, dict[str, str]]] = [
    ("post", "/items", "/items", LAMP, {}),
    ("post", "/items", "/items", [LAMP, LAMP, LAMP], {"X-Request-ID": "order-7.1"}),
    ("get", "/items", "/items?limit=1&count=true", None, {}),
    ("get", "/items", "/items?ids=3,1", None, {}),
    ("head", "/items", "/items?limit=1&count=true", None, {}),
    ("get", "/items/{id}", "/items/1", None, {}),
    ("head", "/items/{id}", "/items/1", None, {}),
    ("get", "/items/{id}", "/items/1", None, {"If-None-Match": '"1-json", "1-msgpack"'}),
    ("head", "/items/{id}", "/items/1", None, {"If-None-Match": "*"}),
    ("put", "/items/{id}", "/items/1", LAMP, {"If-Match": '"1-json"'}),
    ("patch", "/items/{id}", "/items/1", {"price": 0}, {}),
    ("patch", "/items", "/items", [{"id": 2, "in_stock": False}, {"id": 1, "version": 3}], {}),
    ("delete", "/items/{id}", "/items/4", None, {}),
    ("delete", "/items", "/items?ids=3,1,99", None, {}),
    ("get", "/livez", "/livez", None, {}),
    ("head", "/livez", "/livez", None, {}),
    ("get", "/readyz", "/readyz", None, {}),
    ("head", "/readyz", "/readyz", None, {}),
    ("get", "/openapi.json", "/openapi.json", None, {}),
    ("head", "/openapi.json", "/openapi.json", None, {}),
]


def operations() -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Pair each operation with what the document says of it."""
    for route in ROUTES:
        assert isinstance(route.endpoint, Resource)
        for method, operation in route.endpoint.operations.items():
            yield operation, DOCUMENT["paths"][route.path][method.lower()]


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    target: dict[str, Any] = DOCUMENT
    for step in part.get("$ref", "#").split("/")[1:]:
        target = target[step]
    return target if "$ref" in part else part


def codes(answer: dict[str, Any]) -> set[str]:
    """List the problems that an answer may be."""
    return {code for media in answer.get("content", {}).values() for code in media["examples"]}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Validate a value against a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(value)


def check_headers(response: httpx.Response, documented: dict[str, Any]) -> None:
    """Find every header that is required, and none that is not documented or has another form."""
    headers = {name.lower(): resolved(header) for name, header in documented.items()}
    assert {name for name, header in headers.items() if header["required"]} <= response.headers.keys()
    for name in response.headers.keys() - {"content-type", "content-length"}:
        text, schema = response.headers[name], headers[name]["schema"]
        check(int(text) if schema.get("type") == "integer" else text, schema)


def test_the_document_is_valid_openapi() -> None:
    assert not list(openapi_spec_validator.OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


def test_every_method_of_every_path_is_documented_and_nothing_else() -> None:
    served = set()
    for route in ROUTES:
        assert isinstance(route.endpoint, Resource)
        methods = set(route.endpoint.operations)
        served |= {(route.path, method) for method in methods | ({"HEAD"} if "GET" in methods else set())}
    assert {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item} == served


def test_every_operation_has_its_own_id_and_a_summary() -> None:
    documented = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in documented}) == len(documented)
    assert all(operation["summary"].endswith(".") for operation in documented)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.code))
def test_every_problem_is_documented_under_its_status(kind: ProblemType) -> None:
    assert kind.code in codes(DOCUMENT["components"]["responses"]["MethodNotAllowed"]) or any(
        kind.code in codes(told["responses"].get(str(int(kind.status)), {})) for _, told in operations()
    )
    shown = msgspec.convert(DOCUMENT["components"]["examples"][kind.code]["value"], Problem)
    assert (shown.code, shown.status, shown.retryable) == (kind.code, kind.status, kind.retryable)


def test_every_answer_has_a_schema_and_an_example_that_fits_it() -> None:
    for _, told in operations():
        for answer in told["responses"].values():
            for media in answer.get("content", {}).values():
                assert media["examples"]
                for example in media["examples"].values():
                    check(resolved(example)["value"], media["schema"])


def test_every_example_of_a_body_is_decoded_in_either_media_type() -> None:
    for operation, told in operations():
        assert ("requestBody" in told) == (operation.body is not None)
        for media in MEDIA_TYPES if operation.body else ():
            for example in told["requestBody"]["content"][media.content_type]["examples"].values():
                assert operation._decode(media, media.encode(example["value"]))


def test_every_default_and_example_of_a_parameter_is_read() -> None:
    for operation, told in operations():
        for parameter in (resolved(reference) for reference in told["parameters"]):
            assert parameter["description"]
            schema = parameter["schema"]
            for value in [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]:
                check(value, schema)
                if operation.query and parameter["in"] == "query":
                    text = json.dumps(value).strip('[]"').replace(" ", "")
                    query = QueryDecoder(operation.query).decode(urlencode({parameter["name"]: text}).encode())
                    assert getattr(query, parameter["name"]) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("media", MEDIA_TYPES, ids=lambda media: str(media.name))
async def test_every_success_is_answered_as_documented(client: httpx.AsyncClient, media: MediaType) -> None:
    answered = set()
    for method, path, url, body, headers in SUCCESSES:
        types = {"Accept": media.content_type, **({"Content-Type": media.content_type} if body else {})}
        response = await client.request(
            method, url, content=media.encode(body) if body else None, headers=types | headers
        )
        assert response.status_code < 400, (method, url, response.text)
        told = DOCUMENT["paths"][path][method]
        answered.add((told["operationId"], str(response.status_code)))
        answer = told["responses"][str(response.status_code)]
        check_headers(response, answer["headers"])
        if "content" in answer:
            value = media.decoder(Any).decode(response.content)
            plain = JSON.decoder(Any).decode(JSON.encode(value))  # a moment is text in JSON
            check(plain, answer["content"][response.headers["content-type"]]["schema"])
        else:
            assert response.content == b""
    assert answered == {
        (told["operationId"], status)
        for item in DOCUMENT["paths"].values()
        for told in item.values()
        for status in told["responses"]
        if int(status) < 400
    }


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_wrong_method_is_answered_as_documented(client: httpx.AsyncClient) -> None:
    answer = DOCUMENT["components"]["responses"]["MethodNotAllowed"]
    for path, item in DOCUMENT["paths"].items():
        response = await client.request("TRACE", path.replace("{id}", "7"))
        assert response.status_code == 405
        assert {method.lower() for method in response.headers["allow"].split(", ")} == set(item)
        check_headers(response, answer["headers"])
        check(response.json(), answer["content"][response.headers["content-type"]]["schema"])


@pytest.fixture
def printed() -> Any:
    """Return what the command prints."""
    command = [sys.executable, "-m", "service", "openapi"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_document_is_printed_as_it_is_served(client: httpx.AsyncClient, printed: Any) -> None:
    assert (await client.get("/openapi.json")).json() == printed == DOCUMENT
