"""A load balancer as instances usually stand behind one: it asks for readiness, and goes by the response."""

import asyncio
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Self

HOST = "127.0.0.1"
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
# A connection that has been idle for longer may just be closed by the other side, and what is sent then is lost.
IDLE_S_MAX = 0.2
PROBE = b"GET /readyz HTTP/1.1\r\nhost: balancer.test\r\nconnection: close\r\n\r\n"
UNAVAILABLE, BAD_GATEWAY = b"503 Service Unavailable", b"502 Bad Gateway"
# What is lost when a connection is: the kernel says so, or the stream ends early.
LOSSES = (OSError, EOFError, TimeoutError)


class Message(NamedTuple):
    """A request or a response, whole."""

    start: bytes
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return b"close" in self.headers.get(b"connection", b"").lower()

    def encode(self) -> bytes:
        """Write it down for the next hop, whose connection is another one (RFC 9110, section 7.6.1)."""
        lines = [self.start, *(b"%s: %s" % one for one in self.headers.items() if one[0] != b"connection")]
        return b"\r\n".join([*lines, b"", self.body])


async def read_message(reader: StreamReader, *, method: bytes = b"") -> Message:
    """Read a message whose body has a length: a request, or the response to one. Raises EOFError, ValueError."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
    pairs = (line.split(b":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if b"transfer-encoding" in headers:
        raise ValueError("this balancer reads bodies by their length alone")
    has_body = method != b"HEAD" and start.split()[1] not in {b"204", b"304"}
    length = int(headers.get(b"content-length", 0)) if has_body else 0
    return Message(start, headers, await reader.readexactly(length))


class Link(NamedTuple):
    """A connection to an instance."""

    reader: StreamReader
    writer: StreamWriter
    idle_since: float

    @property
    def is_fresh(self) -> bool:
        """Whether a request may be sent over it."""
        is_open = not self.reader.at_eof() and not self.writer.is_closing()
        return is_open and time.monotonic() - self.idle_since < IDLE_S_MAX


class Instance:
    """One that serves, or does not."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_ready = False
        self.served = 0
        self._idle: list[Link] = []

    async def watch(self) -> None:
        """Ask for readiness again and again."""
        while True:
            self.is_ready = await self._has_ready_response()
            if not self.is_ready:
                self.let_go()
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _has_ready_response(self) -> bool:
        with suppress(*LOSSES):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                link = await self._connect()
                try:
                    link.writer.write(PROBE)
                    return (await read_message(link.reader)).start.split()[1] == b"200"
                finally:
                    link.writer.close()
        return False

    async def ask(self, request: Message) -> Message:
        """Send a request, once, and return the response. Raises one of LOSSES: then it may have been served, or not."""
        link = await self._link()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                link.writer.write(request.encode())
                response = await read_message(link.reader, method=request.start.split()[0])
        except BaseException:
            link.writer.close()
            raise
        if response.closes or not self.is_ready:
            link.writer.close()
        else:
            self._idle.append(link._replace(idle_since=time.monotonic()))
        self.served += 1
        return response

    async def _link(self) -> Link:
        """Return a connection that is not in use."""
        while self._idle:
            link = self._idle.pop()
            if link.is_fresh:
                return link
            link.writer.close()
        return await self._connect()

    async def _connect(self) -> Link:
        return Link(*await asyncio.open_connection(HOST, self.port), idle_since=time.monotonic())

    def let_go(self) -> None:
        """Close every connection that is not in use."""
        while self._idle:
            self._idle.pop().writer.close()


class Balancer:
    """A balancer on a free port in a thread of its own, there from entering the block until leaving it.

    Requests go to the instances that are ready, in turn. Each goes to one of them, once: if its connection cannot be
    made, or is lost, the client gets an error. Real ones are kinder, and hide what this one is to show.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.instances = [Instance(port) for port in ports]
        self.failures: list[str] = []
        self._turn = 0
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="balancer")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._has_begun.wait(ANSWER_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._watching(), await asyncio.start_server(self._accept, HOST, 0) as server:
            self.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
            self._has_begun.set()
            await self._end.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(instance.watch()) for instance in self.instances]
        try:
            yield
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)
            for instance in self.instances:
                instance.let_go()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            with suppress(*LOSSES, asyncio.CancelledError):
                while True:
                    request = await read_message(reader)
                    writer.write((await self._respond(request)).encode())
                    await writer.drain()
                    if request.closes:
                        break
        finally:
            writer.close()

    async def _respond(self, request: Message) -> Message:
        ready = [instance for instance in self.instances if instance.is_ready]
        if not ready:
            return self._failed(UNAVAILABLE, request, "no instance is ready")
        self._turn += 1
        try:
            return await ready[self._turn % len(ready)].ask(request)
        except LOSSES as error:
            return self._failed(BAD_GATEWAY, request, repr(error))

    def _failed(self, status: bytes, request: Message, reason: str) -> Message:
        self.failures.append(f"{request.start.decode()}: {reason}")
        return Message(b"HTTP/1.1 " + status, {b"content-length": b"0"}, b"")
