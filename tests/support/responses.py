"""The responses of the service, read as tests need them."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec
from starlette.types import Receive, Scope, Send

from db.engines.engine import open_database
from service.app import create_app
from service.settings import Settings
from service.worker_state import WorkerState

Item = dict[str, Any]

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"
ENCODE: dict[str, Callable[[Any], bytes]] = {JSON: msgspec.json.encode, MSGPACK: msgspec.msgpack.encode}
DECODE: dict[str, Callable[[bytes], Any]] = {JSON: msgspec.json.decode, MSGPACK: msgspec.msgpack.decode}
NEXT = re.compile('<(.*)>; rel="next"')
# Of what a client need not know: types, and how values are written.
PYTHON = re.compile(r"`|\b(str|int|float|bool|bytes|dict|list|None|True|False)\b|b?'")
# A machine that is busy must not look like a service that is.
PATIENT: dict[str, Any] = {
    "queue_wait_ms_max": 60_000,
    "pool_wait_ms": 60_000,
    "statement_timeout_ms": 60_000,
    "request_timeout_ms": 120_000,
}
MEMBERS = {"type", "title", "status", "detail", "code", "errors", "retryable", "request_id"}


@asynccontextmanager
async def serving(settings: Settings, worker_state: WorkerState | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Run a whole service inside this process, and give a client of it."""
    app = create_app(settings, worker_state)
    async with app.lifespan_context(app) as state:

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            # As servers do: each request has a copy of what the lifespan made.
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(serve, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://items.test") as client:
            yield client


def problem(response: httpx.Response) -> dict[str, Any]:
    """Return the problem of a response, once its form is what every problem's is."""
    assert response.status_code >= 400, (response.status_code, response.content)
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert body.keys() == MEMBERS
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:items:problem:{body['code']}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"].endswith(".")
    assert isinstance(body["retryable"], bool)
    assert all(error.keys() == {"pointer", "detail"} and error["detail"] for error in body["errors"])
    assert not [error for error in body["errors"] if PYTHON.search(error["detail"])]
    waits = response.status_code in {429, 503} or body["code"] == "idempotency-key-in-use"
    assert ("retry-after" in response.headers) == waits
    return body


def code(response: httpx.Response) -> tuple[int, str]:
    """Return an error's status and code."""
    return response.status_code, str(problem(response)["code"])


def pointers(response: httpx.Response) -> list[str]:
    """Return the places that an error points to."""
    return [error["pointer"] for error in problem(response)["errors"]]


async def create_item(client: httpx.AsyncClient, **fields: Any) -> Item:
    """Create an item, with what is not given made up."""
    response = await client.post("/items", json={"name": "lamp", "price": 9.5, **fields})
    assert response.status_code == 201, response.content
    return dict(response.json())


async def create_batch(client: httpx.AsyncClient, rows: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Create a batch of items."""
    response = await client.post("/items", json=rows)
    assert response.status_code == 201, response.content
    return list(response.json())


async def read(client: httpx.AsyncClient, id: int) -> Item:
    """Read an item."""
    response = await client.get(f"/items/{id}")
    assert response.status_code == 200, response.content
    return dict(response.json())


async def pages(client: httpx.AsyncClient, url: str) -> AsyncIterator[list[Item]]:
    """Read a list to its end, page by page."""
    following: str | None = url
    while following is not None:
        response = await client.get(following)
        assert response.status_code == 200, response.content
        yield response.json()
        following = next_url(response)


def next_url(response: httpx.Response) -> str | None:
    """Return the address of the next page, if there is one."""
    if "link" not in response.headers:
        return None
    match = NEXT.fullmatch(response.headers["link"])
    assert match is not None, response.headers["link"]
    return str(response.url.join(match[1]))


async def walked(client: httpx.AsyncClient, url: str) -> list[Item]:
    """Return all items of a list, page after page."""
    return [item async for page in pages(client, url) for item in page]


async def everything(client: httpx.AsyncClient) -> list[Item]:
    """Return all items there are."""
    return await walked(client, "/items?limit=1000")


async def execute(database_url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Do something to a database behind the service's back, and give the rows that the last statement has."""
    rows: list[tuple[Any, ...]] = []
    database = open_database(database_url)
    try:
        async with database.engine.begin() as connection:
            for statement in statements:
                result = await connection.exec_driver_sql(statement)
                rows = [tuple(row) for row in result] if result.returns_rows else []
    finally:
        await database.close()
    return rows


# Any transaction keeps SQLite's writers out.
LOCK = {"sqlite": "SELECT 1", "postgresql": "LOCK TABLE items"}


@contextmanager
def locked(database_url: str, backend: str) -> Iterator[None]:
    """Keep every write waiting."""
    with asyncio.Runner() as runner:
        database = open_database(database_url)
        transaction = database.engine.begin()
        connection = runner.run(transaction.__aenter__())
        runner.run(connection.exec_driver_sql(LOCK[backend]))
        yield
        runner.run(transaction.__aexit__(None, None, None))
        runner.run(database.close())
