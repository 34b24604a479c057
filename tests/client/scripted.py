"""A server that responds as it is told, and keeps what it was sent."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec
from aiohttp import web

HOST = "127.0.0.1"
MSGPACK = "application/msgpack"
STORED = {"id": 7, "name": "lamp", "price": 9.5, "in_stock": True, "owner_id": None, "version": 3}
ITEM = msgspec.msgpack.encode({**STORED, "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:00Z"})


class Scripted(NamedTuple):
    """A response that is to be sent."""

    status: int = 200
    body: bytes = ITEM
    headers: Mapping[str, str] = {"Content-Type": MSGPACK}


def problem(status: int, code: str, *, retryable: bool = False, **headers: str) -> Scripted:
    """Return the response with a problem."""
    body = {"code": code, "detail": f"This is {code}.", "retryable": retryable, "request_id": "r-1", "status": status}
    errors = [{"pointer": "/name", "detail": "Expected a string"}]
    content = msgspec.json.encode({**body, "errors": errors})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Scripted(status, content, {"Content-Type": "application/problem+json", **named})


class Script:
    """The responses of a server, one after the other, the last of them again and again; None never comes."""

    def __init__(self) -> None:
        self.url = ""
        self.responses: list[Scripted | None] = [Scripted()]
        self.requests: list[web.BaseRequest] = []
        self.ended = asyncio.Event()

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """Send the next response."""
        await request.read()
        self.requests.append(request)
        scripted = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if scripted is None:
            await self.ended.wait()
        status, body, headers = scripted or Scripted()
        return web.Response(status=status, body=body, headers=headers)

    def sent(self, header: str) -> list[str | None]:
        """Return a header of each request."""
        return [request.headers.get(header) for request in self.requests]


@asynccontextmanager
async def scripting(*responses: Scripted | None) -> AsyncIterator[Script]:
    """Run a server that sends these responses."""
    script = Script()
    script.responses = list(responses) or script.responses
    runner = web.ServerRunner(web.Server(script.respond), shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        script.url = f"http://{HOST}:{runner.addresses[0][1]}"
        yield script
    finally:
        script.ended.set()
        await runner.cleanup()
