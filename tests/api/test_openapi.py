"""The OpenAPI document: valid, complete, and true of the service that is running."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import openapi_spec_validator
import pytest
import re2

from service.http import problems
from service.http.media_types import MEDIA_TYPES
from service.http.operation import Operation, Resource
from service.http.problems import Problem, ProblemType
from service.http.query import QueryDecoder
from service.openapi.document import document
from service.routes import ROUTES
from tests.support.documented import (
    DOCUMENT,
    check,
    check_headers,
    check_response,
    codes,
    resolved,
    validator,
)
from tests.support.resources import COLLECTIONS, RESOURCES, ResourceClient
from tests.support.responses import ENCODE
from tests.support.token_calls import use_tokens

ROOT = Path(__file__).parent.parent.parent
KINDS = [
    *(value for value in vars(problems).values() if isinstance(value, ProblemType)),
    problems.not_found("token"),
    *(make(collection.noun) for collection in COLLECTIONS for make in (problems.not_found, problems.stale)),
    *(
        problem
        for collection in COLLECTIONS
        for *_, operation in collection.operations
        for problem in (*operation.problems, *([problems.not_owner(collection.noun)] if operation.for_owner else []))
    ),
]


def operations() -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Pair each operation with its part of the document."""
    for route in ROUTES:
        assert isinstance(route.endpoint, Resource)
        for method, operation in route.endpoint.operations.items():
            yield operation, DOCUMENT["paths"][route.path][method.lower()]


def test_the_document_is_valid_openapi() -> None:
    assert not list(openapi_spec_validator.OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_operations_with_a_scope_need_a_token_and_say_which_scope() -> None:
    for operation, described in operations():
        if operation.by_password:
            assert described["security"] == [{"basic": []}]
            assert codes(described["responses"]["401"]) == {"invalid-credentials"}
        elif operation.scope is None:
            assert "security" not in described
            assert not {"401", "403"} & described["responses"].keys()
        else:
            assert described["security"] == [{"bearer": []}, {}]
            assert f"`{operation.scope}`" in described["description"]
            assert codes(described["responses"]["401"]) == {"unauthenticated", "invalid-token"}
            owned = {"not-owner"} if operation.for_owner else set()
            assert codes(described["responses"]["403"]) == {"forbidden"} | owned
    assert DOCUMENT["security"] == []
    closed = document(ROUTES, {"tokens"})["paths"]
    assert closed["/items"]["head"]["security"] == closed["/users/{id}"]["put"]["security"] == [{"bearer": []}]
    assert "security" not in closed["/livez"]["get"]
    assert DOCUMENT["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


@pytest.mark.parametrize("auth", [{"jwt"}, {"jwt", "tokens"}, {"jwt", "mtls", "tokens"}], ids=len)
def test_each_way_in_is_a_security_scheme(auth: set[str]) -> None:
    described = document(ROUTES, auth)
    schemes = described["components"]["securitySchemes"]
    assert schemes["jwt"].items() >= {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}.items()
    names = [name for way, name in (("tokens", "bearer"), ("jwt", "jwt"), ("mtls", "mtls")) if way in auth]
    assert list(schemes) == [*names, "basic"]
    assert described["paths"]["/items"]["get"]["security"] == [{name: []} for name in names]
    assert "mtls" not in schemes or schemes["mtls"]["type"] == "mutualTLS"
    openapi_spec_validator.validate(described)


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


def test_every_operation_says_what_it_is_for_and_so_does_its_tag() -> None:
    described_tags = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    used = set()
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            description = operation["description"].partition("Needs ")[0].strip()
            assert len(description) > 40, operation["operationId"]
            assert description.endswith("."), operation["operationId"]
            assert not set("{}\n") & set(description), operation["operationId"]
            used |= set(operation["tags"])
    assert used == described_tags.keys()
    assert all(text.endswith(".") and len(text) > 20 for text in described_tags.values())
    assert len(set(described_tags.values())) == len(described_tags)


def test_every_operation_has_examples_in_json() -> None:
    for _, described in operations():
        request = described.get("requestBody", {"content": {}})
        shown = [(200, request), *((int(status), one) for status, one in described["responses"].items())]
        for status, one in shown:
            for media_type, media in one.get("content", {}).items():
                assert media["examples"], (described["operationId"], status, media_type)


@pytest.mark.parametrize("kind", {kind.code: kind for kind in KINDS}.values(), ids=lambda kind: str(kind.code))
def test_every_problem_is_documented_under_its_status(kind: ProblemType) -> None:
    assert kind.code in codes(DOCUMENT["components"]["responses"]["MethodNotAllowed"]) or any(
        kind.code in codes(described["responses"].get(str(int(kind.status)), {})) for _, described in operations()
    )
    shown = msgspec.convert(DOCUMENT["components"]["examples"][kind.code]["value"], Problem)
    assert (shown.code, shown.status, shown.retryable) == (kind.code, kind.status, kind.retryable)


def test_every_code_of_a_problem_is_listed() -> None:
    listed = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert listed == sorted({kind.code for kind in KINDS})


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(part)


def schemas_with(keyword: str, kind: type) -> list[dict[str, Any]]:
    """Return the schemas that have a keyword."""
    found = [part for part in parts(DOCUMENT) if isinstance(part.get(keyword), kind)]
    assert found
    return found


def test_every_pattern_compiles_in_an_engine_without_lookaheads() -> None:
    for schema in schemas_with("pattern", str):
        assert re2.compile(schema["pattern"])
        assert "\\Z" not in schema["pattern"]  # which other dialects do not have


def test_every_number_says_how_wide_it_is_and_every_enumeration_of_what_type() -> None:
    widths = {"integer": {"int32", "int64"}, "number": {"double"}}
    for schema in [one for one in schemas_with("type", str) if one["type"] in widths]:
        assert schema["format"] in widths[schema["type"]], schema
        assert schema["format"] == "int64" or schema.get("maximum", 0) < 2**31 or schema["type"] == "number"
    for schema in [*schemas_with("enum", list), *schemas_with("const", str)]:
        assert schema["type"] == "string"


def test_one_or_several_are_one_of_two_forms() -> None:
    bodies = [described["requestBody"] for operation, described in operations() if operation.body]
    schemas = [media["schema"] for body in bodies for media in body["content"].values()]
    assert not [schema for schema in schemas if "anyOf" in schema]
    of_two = [[form.get("type", "object") for form in schema["oneOf"]] for schema in schemas if "oneOf" in schema]
    assert of_two == [["object", "array"]] * len(COLLECTIONS) * len(MEDIA_TYPES)


def test_a_time_limit_is_a_number() -> None:
    schema = DOCUMENT["components"]["parameters"]["X-Request-Timeout"]["schema"]
    assert schema["type"] == "number"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("limit", "status"), [("9", 200), ("0.25e1", 200), ("999999", 200), ("1e7", 400), ("0", 400)])
async def test_a_time_limit_is_read_as_it_is_documented(client: httpx.AsyncClient, limit: str, status: int) -> None:
    check_it = validator(json.dumps(DOCUMENT["components"]["parameters"]["X-Request-Timeout"]["schema"])).is_valid
    assert check_it(float(limit)) == (status == 200)
    assert (await client.get("/items", headers={"x-request-timeout": limit})).status_code == status


def test_every_response_has_a_schema_and_an_example_that_fits_it() -> None:
    for _, described in operations():
        for response in described["responses"].values():
            for media in response.get("content", {}).values():
                assert media["examples"]
                for example in media["examples"].values():
                    check(resolved(example)["value"], media["schema"])


def test_every_example_of_a_body_is_decoded_in_either_media_type() -> None:
    for operation, described in operations():
        assert ("requestBody" in described) == (operation.body is not None)
        for media in MEDIA_TYPES if operation.body else ():
            for example in described["requestBody"]["content"][media.content_type]["examples"].values():
                assert operation.body_decoder.decode(media, media.encode(example["value"]))


def test_every_default_and_example_of_a_parameter_is_read() -> None:
    for operation, described in operations():
        for parameter in (resolved(reference) for reference in described["parameters"]):
            assert parameter["description"]
            schema = parameter["schema"]
            for value in [*schema.get("examples", []), *([schema["default"]] if "default" in schema else [])]:
                check(value, schema)
                if operation.query and parameter["in"] == "query":
                    text = json.dumps(value).strip('[]"').replace(" ", "")
                    query = QueryDecoder(operation.query).decode(urlencode({parameter["name"]: text}).encode())
                    assert getattr(query, parameter["name"]) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("media_type", ENCODE)
async def test_every_success_is_as_documented(client: httpx.AsyncClient, media_type: str) -> None:
    found, numbers = set(), count(1)

    async def note(response: httpx.Response) -> None:
        await check_response(response)
        request = response.request
        [path] = [route.path for route in ROUTES if route.path_regex.match(request.url.path)]
        found.add((path, request.method.lower(), str(response.status_code)))

    client.event_hooks = {"request": [], "response": [note]}
    for collection in COLLECTIONS:
        resource = await ResourceClient(collection, client, numbers).prepared()
        rows = await resource.create(count=2)
        for other, name in collection.referring:
            referring = await resource.of(other)
            await referring.create(referring.new(**{name: rows[0]["id"]}))
        for request in resource.reads(*rows):
            for method, headers in product(("GET", "HEAD"), ({}, {"if-none-match": "*"})):
                await resource.send(request._replace(method=method), media_type, **headers)
        async for request, _ in resource.each_write():
            await resource.send(request, media_type)
    await use_tokens(client, media_type)
    for path in [path for path, one in RESOURCES.items() if not one.noun]:
        for method in ("GET", "HEAD"):
            await client.request(method, path, headers={"accept": media_type})
    assert found == {
        (path, method, status)
        for path, item in DOCUMENT["paths"].items()
        for method, described in item.items()
        for status in described["responses"]
        if int(status) < 400
    }


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_a_wrong_method_is_as_documented(client: httpx.AsyncClient) -> None:
    documented = DOCUMENT["components"]["responses"]["MethodNotAllowed"]
    for path, item in DOCUMENT["paths"].items():
        response = await client.request("TRACE", path.replace("{id}", "7"))
        assert response.status_code == 405
        assert {method.lower() for method in response.headers["allow"].split(", ")} == set(item)
        check_headers(response, documented["headers"])
        check(response.json(), documented["content"][response.headers["content-type"]]["schema"])


@pytest.fixture
def printed() -> Any:
    """Return what the command prints."""
    command = [sys.executable, "-m", "service", "openapi"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
async def test_the_document_is_printed_as_it_is_served(client: httpx.AsyncClient, printed: Any) -> None:
    assert (await client.get("/openapi.json")).json() == printed == DOCUMENT
