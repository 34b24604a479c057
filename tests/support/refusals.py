"""What every resource refuses, although it is well formed: each with the problem that the response has."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from tests.support.resources import FOLDED, Body, Request, ResourceClient

UNKNOWN_ID = 424242


class Refusal(NamedTuple):
    """A request that is refused, and its problem: the status, the code and the pointers."""

    request: Request
    status: int
    code: str
    pointers: tuple[str, ...] = ()


async def refusals(resource: ResourceClient) -> AsyncIterator[Refusal]:
    """Yield every refusal by a resource, on rows that stay as they are."""
    first, second = await resource.create(count=2)
    for refusal in (*_missing(resource, second), *_stale(resource, first, second)):
        yield refusal
    for name in resource.collection.unique:
        values = (
            [second[name], second[name].upper()] if name + FOLDED in resource.collection.table.c else [second[name]]
        )
        for value in values:
            for request, pointer in _with_value(resource, first, **{name: value}):
                yield Refusal(request, 409, "already-exists", (f"{pointer}/{name}",))
        twice = {name: resource.new()[name]}
        batch = Request("POST", resource.path, [resource.new(**twice), resource.new(**twice)])
        yield Refusal(batch, 409, "already-exists", (f"/1/{name}",))
    for name in resource.collection.references:
        for request, pointer in _with_value(resource, first, **{name: UNKNOWN_ID}):
            yield Refusal(request, 422, "unknown-reference", (f"{pointer}/{name}",))
    for other, name in resource.collection.referring:
        [owner] = await resource.create()
        client = await resource.of(other)
        await client.create(client.new(**{name: owner["id"]}))
        for request in resource.writes(owner, second):
            if request.method == "DELETE" and request.url in {resource.url(owner), resource.ids_url(second, owner)}:
                yield Refusal(request, 409, f"owns-{other.table.name}")


def _missing(resource: ResourceClient, known: Body) -> Iterator[Refusal]:
    """Yield the writes of a row that does not exist, in a batch together with one that does."""
    for request in resource.writes({"id": UNKNOWN_ID}, known):
        if resource.is_of_one(request) or request.method == "PATCH":
            yield Refusal(request, 404, f"{resource.noun}-not-found")


def _stale(resource: ResourceClient, first: Body, second: Body) -> Iterator[Refusal]:
    """Yield the writes of a row at another version than the one that it has."""
    for tags in ('"9-json"', '"8-json", "9-msgpack"'):
        for request in resource.writes(first, second):
            if resource.is_of_one(request):
                yield Refusal(request._replace(headers={"if-match": tags}), 412, "stale")
            elif request.method == "PATCH":
                [fresh, stale] = request.body
                yield Refusal(request._replace(body=[fresh, {**stale, "version": 9}]), 412, "stale")


def _with_value(resource: ResourceClient, row: Body, **value: Any) -> Iterator[tuple[Request, str]]:
    """Yield each write of one value, into new rows or into this one, with the pointer to its body."""
    for request in resource.writes(row, row):
        if isinstance(request.body, dict):
            yield request._replace(body=request.body | value), ""
        elif isinstance(request.body, list):
            first, second = request.body
            body = [first, second | value] if request.method == "POST" else [second | value]
            yield request._replace(body=body), f"/{len(body) - 1}"
