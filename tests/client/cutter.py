"""A proxy before the service that cuts connections around a request, and keeps what was sent and came back."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from tests.faults.balancer import LOSSES, Message, read_message
from tests.faults.link import close

HOST = "127.0.0.1"
Phase = Literal["before", "after", "within"]  # the service has the request; or when half of the response is passed on
PHASES: tuple[Phase, ...] = get_args(Phase)


class Cutter:
    """A proxy that cuts what it is told to, in turn; one connection to the service for each of a client's."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._cuts: Iterator[Phase | None] = iter(())
        self._writers: set[StreamWriter] = set()
        self.requests: list[Message] = []
        self.responses: list[Message] = []
        self.cuts = 0
        self.url = ""

    def cut(self, phases: Iterable[Phase | None]) -> None:
        """Cut the next requests in these phases; None lets one pass."""
        self._cuts = iter(phases)

    @property
    def keys(self) -> list[bytes]:
        """Return the idempotency keys of the requests."""
        return [request.headers[b"idempotency-key"] for request in self.requests]

    @property
    def codes(self) -> list[str]:
        """Return the codes of the problems among the responses."""
        problems = [one for one in self.responses if one.headers.get(b"content-type") == b"application/problem+json"]
        return [msgspec.json.decode(problem.body)["code"] for problem in problems]

    async def accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection until it ends."""
        self._writers.add(writer)
        with suppress(*LOSSES):
            service_reader, service_writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            try:
                while await self._pass_on(reader, writer, service_reader, service_writer):
                    pass
            finally:
                close(service_writer)
        close(writer)
        self._writers.discard(writer)

    async def _pass_on(
        self, reader: StreamReader, writer: StreamWriter, service_reader: StreamReader, service_writer: StreamWriter
    ) -> bool:
        """Pass a request and its response on; return whether the connection is still there."""
        request = await read_message(reader)
        self.requests.append(request)
        phase = next(self._cuts, None)
        self.cuts += phase is not None
        if phase != "before":
            service_writer.write(request.encode())
            response = await read_message(service_reader, method=request.start.split()[0])
            self.responses.append(response)
            content = response.encode()
            if phase is None:
                writer.write(content)
            elif phase == "within":
                writer.write(content[: len(content) // 2])
                await writer.drain()
        if phase:
            close(writer, reset=phase != "within")
        return phase is None

    def end(self) -> None:
        """End every connection."""
        for writer in list(self._writers):
            close(writer)


@asynccontextmanager
async def cutting(url: str) -> AsyncIterator[Cutter]:
    """Put a proxy before the service at a URL."""
    cutter = Cutter(url)
    server = await asyncio.start_server(cutter.accept, HOST, 0)
    cutter.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        server.close()
        cutter.end()
        await server.wait_closed()
