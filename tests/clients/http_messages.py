"""Have httplint look at a response of every operation, and of every status that a client can bring about."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
from httplint.message import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

ROW = re.compile("/(items|users)/[0-9]+")
ROWS = 200  # of each resource: every request for one has its own
# What httplint finds, and where it is as it should be.
EXPLAINED: dict[str, Callable[[httpx.Response], bool]] = {
    # A batch makes several; without Location, what was made is identified by the target, the list (RFC 9110, 15.3.2).
    "CREATED_WITHOUT_LOCATION": lambda response: response.content[:1] in b"[\x91\x92",
    # A list is sent again, as its rows may change without each other: only a row has a validator.
    "FRESHNESS_NO_CACHE_NO_VALIDATOR": lambda response: not ROW.fullmatch(response.request.url.path),
    # Accept tells which media types a body may have (RFC 9110, 12.5.1 and 15.5.16; PATCH has Accept-Patch, too).
    "REQUEST_HDR_IN_RESPONSE": lambda response: response.status_code == 415,
    # The conditions of a batch are the versions in its body.
    "STATUS_412_WITHOUT_PRECONDITION": lambda response: response.request.method == "PATCH",
    # The requests are wrong on purpose.
    "STATUS_BAD_REQUEST": lambda response: response.status_code == 400,
}
JSON = {"content-type": "application/json"}

Sent = tuple[str, str, dict[str, str], Any]


def main(url: str) -> int:
    """Print each note, and return the exit code: 1 if there is one that is not explained."""
    found: dict[str, str] = {}
    explained, seen = set(), set()
    with httpx.Client(base_url=url) as client:
        document = client.get("/openapi.json").json()
        client.post("/items", json=[{"name": "lamp", "price": 9.5}] * ROWS).raise_for_status()
        user = {"username": "ada", "email": "ada@example.org", "name": "Ada"}
        client.post("/users", json=[renamed(user, -number) for number in range(ROWS)]).raise_for_status()
        for sent in requests(document):
            response = send(client, sent)
            seen.add(response.status_code)
            for note in notes(response):
                name = type(note).__name__
                if name in EXPLAINED and EXPLAINED[name](response):
                    explained.add(name)
                else:
                    found.setdefault(name, f"{sent[:3]} {response.status_code}: {note.summary}")
    assert seen >= {200, 201, 204, 304, 400, 404, 405, 406, 409, 412, 415, 422, 431}, seen
    wrong = [f"{name}: {text}" for name, text in sorted(found.items())]
    wrong += [f"{name}: explained, and not found" for name in sorted(EXPLAINED.keys() - explained)]
    print(*wrong, sep="\n")  # noqa: T201
    return 1 if wrong else 0


def requests(document: dict[str, Any]) -> Iterator[Sent]:
    """Yield requests of every operation: right ones, and wrong ones of each kind."""
    numbers = count(10)  # the examples are of the row 7, which stays
    for path, item in document["paths"].items():
        yield "BREW", path.replace("{id}", "1"), {}, None
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            bodies = [example["value"] for example in content.get("examples", {}).values()] or [None]
            for body in bodies:
                yield from variants(method.upper(), path, body, numbers)
    yield "GET", "/nowhere", {}, None


def variants(method: str, path: str, body: Any, numbers: Iterator[int]) -> Iterator[Sent]:
    """Yield a request as it should be, and with one thing wrong at a time."""
    there = path.replace("{id}", str(next(numbers)))
    query = f"?ids={next(numbers)}" if method == "DELETE" and path == there else ""
    typed = JSON if body is not None else {}
    new = renamed(body, next(numbers))
    yield method, there + query, typed, new
    yield method, there + query, {**typed, "accept": "application/msgpack"}, renamed(body, next(numbers))
    yield method, there + query, {**typed, "accept": "text/html"}, new
    yield method, there + query, {**typed, "accept": "a," * 1000}, new
    yield method, f"{there}?limit=1&count=true", typed, new
    yield method, f"{there}?colour=red", typed, new
    yield method, there + query, {**typed, "idempotency-key": f"{method} {there}".replace(" ", "-")}, new
    yield method, there + query, {**typed, "if-match": '"999-json"'}, new
    yield method, there + query, {**typed, "if-none-match": "*"}, new
    yield method, path.replace("{id}", str(10 * ROWS)), typed, new
    if body is not None:
        yield method, there, {"content-type": "text/plain"}, new
        yield method, there, typed, [{"name": []}]
        yield method, there, typed, body


def renamed(body: Any, number: int) -> Any:
    """Return a body with unique values of its own."""
    if isinstance(body, list):
        return [renamed(member, number) for member in body]
    if body is None or "username" not in body:
        return body
    return body | {"username": f"ada{number}", "email": f"ada{number}@example.org"}


def send(client: httpx.Client, sent: Sent) -> httpx.Response:
    """Send a request."""
    method, url, headers, body = sent
    content = None if body is None else json.dumps(body)
    return client.request(method, url, headers=headers, content=content)


def notes(response: httpx.Response) -> list[Any]:
    """Return what httplint warns of in a response."""
    request = HttpRequestLinter()
    request.process_request_topline(response.request.method.encode(), str(response.request.url).encode(), b"1.1")
    request.process_headers(response.request.headers.raw)
    linter = HttpResponseLinter()
    linter.request = request
    linter.is_head_response = response.request.method == "HEAD"
    linter.process_response_topline(b"1.1", str(response.status_code).encode(), response.reason_phrase.encode())
    linter.process_headers(response.headers.raw)
    linter.feed_content(response.content)
    linter.finish_content(complete=True)
    return [note for note in linter.notes if note.level in {levels.WARN, levels.BAD}]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
