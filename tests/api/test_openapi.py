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

from service.http import problems
from service.http.media_types import MEDIA_TYPES
from service.http.operation import Operation, Resource
from service.http.problems import Problem, ProblemType
from service.http.query import QueryDecoder
from service.routes import ROUTES
from tests.support.documented import DOCUMENT, check, check_headers, check_response, codes, resolved
from tests.support.resources import COLLECTIONS, RESOURCES, ResourceClient
from tests.support.responses import ENCODE

ROOT = Path(__file__).parent.parent.parent
KINDS = [
    *(value for value in vars(problems).values() if isinstance(value, ProblemType)),
    *(make(collection.noun) for collection in COLLECTIONS for make in (problems.not_found, problems.stale)),
    *(
        problem
        for collection in COLLECTIONS
        for *_, operation in collection.operations
        for problem in operation.problems
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


@pytest.mark.parametrize("kind", {kind.code: kind for kind in KINDS}.values(), ids=lambda kind: str(kind.code))
def test_every_problem_is_documented_under_its_status(kind: ProblemType) -> None:
    assert kind.code in codes(DOCUMENT["components"]["responses"]["MethodNotAllowed"]) or any(
        kind.code in codes(described["responses"].get(str(int(kind.status)), {})) for _, described in operations()
    )
    shown = msgspec.convert(DOCUMENT["components"]["examples"][kind.code]["value"], Problem)
    assert (shown.code, shown.status, shown.retryable) == (kind.code, kind.status, kind.retryable)


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
