"""Every resource of ROUTES as tests see it: its operations, and requests for them, made from its types alone."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple, Self

import httpx
from sqlalchemy import Table, UniqueConstraint

from db.models import Base
from db.types import fold
from service.http.operation import Operation, Resource
from service.http.validation import struct_fields
from service.routes import ROUTES
from tests.support.responses import DECODE, ENCODE, JSON, PROBLEM, walked
from tests.support.values import Fields

Body = dict[str, Any]

FOLDED = "_folded"


class Collection:
    """A resource of ROUTES: the operations at its path, and those at the path of one of its rows."""

    def __init__(self, path: str, many: Resource, one: Resource) -> None:
        self.path, self.noun = path, many.noun
        self.many, self.one = many.operations, one.operations
        self.created = Fields(self.many["POST"].body)
        self.patched = Fields(next((one["PATCH"].body for one in (self.one, self.many) if "PATCH" in one), None))
        self.shown = tuple(struct_fields(self.many["POST"].result))
        self.query = Fields(self.many["GET"].query)
        self.orders: Sequence[str] = self.query.schemas["order"]["enum"]

    def __str__(self) -> str:
        return self.path

    @property
    def has_every_verb(self) -> bool:
        """Whether rows can be created, read, updated and deleted, one at a time and in batches, and replaced."""
        return {"GET", "POST", "PATCH", "DELETE"} <= {*self.many} and {"GET", "PUT", "PATCH", "DELETE"} <= {*self.one}

    @property
    def operations(self) -> Iterator[tuple[str, str, Operation]]:
        """Yield the method and the path of each operation, with it."""
        for path, operations in ((self.path, self.many), (f"{self.path}/{{id}}", self.one)):
            yield from ((method, path, operation) for method, operation in operations.items())

    @property
    def table(self) -> Table:
        """Return the table behind it, which has the name of its path."""
        return Base.metadata.tables[self.path.strip("/")]

    @cached_property
    def unique(self) -> list[str]:
        """Return the fields of which each row has a value of its own."""
        constraints = [tuple(one.columns) for one in self.table.constraints if isinstance(one, UniqueConstraint)]
        indexes = [tuple(one.columns) for one in self.table.indexes if one.unique]
        names = {only.name.removesuffix(FOLDED) for only, *others in constraints + indexes if not others}
        return [name for name in self.created.kinds if name in names]

    def comparable(self, name: str, value: Any) -> Any:
        """Return a field's value as it is compared: whatever its case, if the table has a column for that."""
        return fold(value) if name + FOLDED in self.table.c else value

    @cached_property
    def references(self) -> "dict[str, Collection]":
        """Return the fields that refer to rows of a collection, with it."""
        keys = [(column.name, key.column.table) for column in self.table.c for key in column.foreign_keys]
        return {name: other for name, table in keys for other in COLLECTIONS if other.table is table}

    @cached_property
    def referring(self) -> "list[tuple[Collection, str]]":
        """Return the collections with a field that refers to rows of this one."""
        return [(one, name) for one in COLLECTIONS for name, other in one.references.items() if other is self]


RESOURCES = {str(route.path): route.endpoint for route in ROUTES if isinstance(route.endpoint, Resource)}
COLLECTIONS = [
    Collection(path, many, RESOURCES[f"{path}/{{id}}"])
    for path, many in RESOURCES.items()
    if many.noun and "GET" in many.operations and f"{path}/{{id}}" in RESOURCES
]


class Request(NamedTuple):
    """A request of an operation."""

    method: str
    url: str
    body: Any = None
    headers: Mapping[str, str] = {}


class ResourceClient:
    """A client of one resource; whatever it makes is new, also to the clients that were made of it."""

    def __init__(self, collection: Collection, client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        self.collection, self.client = collection, client
        self.path, self.noun = collection.path, collection.noun
        self.references: dict[str, list[int]] = {}  # for each field that refers to rows, some of their ids
        self._numbers = numbers

    async def prepared(self) -> Self:
        """Create the rows that its own may refer to."""
        for name, collection in self.collection.references.items():
            if collection is not self.collection:
                self.references[name] = [row["id"] for row in await (await self.of(collection)).create(count=2)]
        return self

    async def of(self, collection: Collection) -> Self:
        """Return a client of another resource."""
        return await type(self)(collection, self.client, self._numbers).prepared()

    def _made(self, fields: Fields) -> Body:
        number = next(self._numbers)
        body = {name: fields.value(name, number) for name in fields.kinds if name in self.collection.shown}
        for name in self.collection.references.keys() & body:
            ids = [*([None] if fields.accepts(name, None) else []), *self.references.get(name, [])]
            body[name] = ids[number % len(ids)]
        return body

    def new(self, **fields: Any) -> Body:
        """Make a body of all fields that are shown, for POST and PUT."""
        return self._made(self.collection.created) | fields

    def change(self, **fields: Any) -> Body:
        """Make a merge patch of all fields that are shown."""
        return self._made(self.collection.patched) | fields

    @property
    def null(self) -> Body:
        """Return null for the fields that are shown and may be null."""
        created, shown = self.collection.created, self.collection.shown
        return {name: None for name in created.kinds if name in shown and created.accepts(name, None)}

    def url(self, row: Body) -> str:
        """Return where a row is."""
        return f"{self.path}/{row['id']}"

    def ids_url(self, *rows: Body) -> str:
        """Return the collection's path with the ids of rows."""
        return f"{self.path}?ids={','.join(str(row['id']) for row in rows)}"

    async def send(self, request: Request, media_type: str = JSON, **headers: str) -> httpx.Response:
        """Send a request, its body and its response in a media type."""
        method, url, body, more = request
        content = None if body is None else ENCODE[media_type](body)
        sent = {"accept": media_type, **({} if body is None else {"content-type": media_type}), **more, **headers}
        return await self.client.request(method, url, content=content, headers=sent)

    async def create(self, *bodies: Body, count: int = 1) -> list[Body]:
        """Create rows: of these bodies, or so many new ones."""
        response = await self.client.post(self.path, json=bodies or [self.new() for _ in range(count)])
        assert response.status_code == 201, response.content
        return list(response.json())

    async def everything(self) -> list[Body]:
        """Return all rows."""
        return await walked(self.client, f"{self.path}?limit=1000")

    def is_of_one(self, request: Request) -> bool:
        """Return whether a request is for one row, at its own path."""
        return request.url.startswith(f"{self.path}/")

    def operation(self, request: Request) -> Operation | None:
        """Return the operation of a request, if the resource has it."""
        return (self.collection.one if self.is_of_one(request) else self.collection.many).get(request.method)

    def _of_one(self, method: str, row: Body, other: Body, body: Any = None) -> list[Request]:
        """Return the requests of an operation for one row: as it is, and with each of its parameters."""
        request = Request(method, self.url(row), body)
        operation = self.operation(request)
        schemas = Fields(operation.query).schemas if operation else {}
        values = {name: schema.get("enum", [other["id"]])[0] for name, schema in schemas.items()}
        return [request, *(request._replace(url=f"{request.url}?{name}={value}") for name, value in values.items())]

    def reads(self, first: Body, second: Body) -> list[Request]:
        """Return a request for each way to read rows."""
        urls = (self.path, self.ids_url(second, first))
        return [*self._of_one("GET", first, second), *(Request("GET", url) for url in urls)]

    def writes(self, first: Body, second: Body) -> list[Request]:
        """Return a request for each way to write rows: each operation, for one row and for several."""
        requests = [
            Request("POST", self.path, self.new()),
            Request("POST", self.path, [self.new(), self.new()]),
            Request("POST", self.path, [self.new(**self.null), self.new(**self.null)]),
            *self._of_one("PUT", first, second, self.new()),
            *self._of_one("PATCH", first, second, self.change()),
            Request("PATCH", self.path, [self.change(id=row["id"]) for row in (second, first)]),
            *self._of_one("DELETE", first, second),
            Request("DELETE", self.ids_url(second, first)),
        ]
        return [request for request in requests if self.operation(request)]

    def changes(self, row: Body) -> list[Request]:
        """Return a request for each way to change one row."""
        return [one for one in self.writes(row, row) if self.is_of_one(one) and one.method != "DELETE"]

    async def each_write(self) -> AsyncIterator[tuple[Request, int]]:
        """Yield each way to write, on rows of its own, with the status of its success."""
        for place in range(len(self.writes({"id": 1}, {"id": 2}))):
            request = self.writes(*await self.create(count=2))[place]
            operation = self.operation(request)
            assert operation is not None
            yield request, operation.status


async def one_of_each(client: httpx.AsyncClient) -> None:
    """Create a row of every resource, whose id is then 1, or some more."""
    numbers = count(1)
    for collection in COLLECTIONS:
        await (await ResourceClient(collection, client, numbers).prepared()).create()


def content(response: httpx.Response) -> Any:
    """Return the content of a response, whatever its media type."""
    media_type, accepted = response.headers["content-type"], response.request.headers["accept"]
    assert media_type == PROBLEM or accepted in {media_type, "*/*"}, (accepted, media_type)
    return _as_in_json(DECODE[JSON if media_type == PROBLEM else media_type](response.content))


def _as_in_json(value: Any) -> Any:
    """Return a value with its timestamps as JSON has them, always with six decimals."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, list):
        return list(map(_as_in_json, value))
    return {name: _as_in_json(member) for name, member in value.items()} if isinstance(value, dict) else value
