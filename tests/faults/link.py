"""A connection through a proxy."""

import asyncio
import ctypes
import fcntl
import socket
import struct
import sys
import termios
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

from tests.faults.conditions import Armed, Conditions, Cut
from tests.faults.wire import Batch, Dialogue

CHUNK_BYTES = 2**16
CHUNKS_MAX = 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SO_ATTACH_FILTER = 26  # Linux's, which Python does not name
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # a filter of one instruction: return 0


class DroppedError(Exception):
    """The connection is to end here."""


class Pipe:
    """One direction: everything comes out in order, later or not at all."""

    def __init__(self, source: StreamReader, conditions: Conditions) -> None:
        self.ended = False
        self._source = source
        self._conditions = conditions
        self._arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)

    async def fill(self) -> None:
        """Take everything until the end."""
        while not self.ended:
            try:
                chunk = await self._source.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            self.ended = not chunk
            await self._arrived.put((asyncio.get_running_loop().time(), chunk))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return what may pass, until the end."""
        while True:
            arrived, chunk = await self._arrived.get()
            await self._conditions.let_pass(arrived)
            if not chunk:
                return
            yield chunk


class Reply:
    """What the server sends in reply to one batch, while the client waits for it."""

    def __init__(self) -> None:
        self.data = b""
        self.failed = False
        self.complete = asyncio.Event()

    def add(self, chunk: bytes, kinds: list[bytes]) -> None:
        """Take more of it."""
        self.data += chunk
        self.failed = self.failed or b"E" in kinds
        if b"Z" in kinds:
            self.complete.set()


class Link:
    """A connection of the client, joined with one to the server."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, conditions: Conditions) -> None:
        self._client = writer
        self._server: StreamWriter | None = None
        self._conditions = conditions
        self._dialogue = Dialogue()
        self._held: Reply | None = None
        self._up = Pipe(reader, conditions)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the client still has it."""
        return not self._up.ended and not self._client.is_closing()

    def start(self, host: str, port: int) -> "asyncio.Task[None]":
        """Begin to pass things on, in a task that ends with the connection."""
        self._task = asyncio.create_task(self._run(host, port))
        return self._task

    def drop(self, *, reset: bool) -> None:
        """End it at once, whatever waits."""
        close(self._client, reset=reset)
        if self._task is not None:
            self._task.cancel()

    async def lose(self) -> None:
        """Drop all that the client sends before it is acknowledged, as a network does that has forgotten it.

        What it was sent has arrived: it would be sent again, and be taken for a sign of life.
        """
        connection: socket.socket = self._client.get_extra_info("socket")
        while unacknowledged(connection):  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0)
        program = struct.pack("HP", 1, ctypes.addressof(DROP_ALL))
        connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    async def _run(self, host: str, port: int) -> None:
        filling = [asyncio.create_task(self._up.fill())]
        try:
            with suppress(OSError, DroppedError):
                await self._conditions.let_pass(asyncio.get_running_loop().time())
                reader, self._server = await asyncio.open_connection(host, port)
                down = Pipe(reader, self._conditions)
                filling.append(asyncio.create_task(down.fill()))
                await first(self._pass_up(self._server), self._pass_down(down))
        finally:
            close(self._client)
            if self._server is not None:
                close(self._server)
            await cancel(filling)

    async def _pass_up(self, server: StreamWriter) -> None:
        async for chunk in self._up.chunks():
            for batch in self._dialogue.sent(chunk):
                struck = self._conditions.strikes()
                if struck == "before":
                    self._reset()
                cut = self._conditions.take(batch.committed) if batch.committed else None
                if cut is not None:
                    await self._cut(cut, batch, server)
                else:
                    await self._conditions.write(server, batch.data)
                if struck == "after":
                    self._reset()

    async def _pass_down(self, down: Pipe) -> None:
        async for chunk in down.chunks():
            kinds = self._dialogue.received(chunk)
            if self._held is None:
                await self._conditions.write(self._client, chunk)
            else:
                self._held.add(chunk, kinds)

    async def _cut(self, armed: Armed, batch: Batch, server: StreamWriter) -> None:
        self._held = reply = Reply()
        try:
            if armed.phase != "before":
                await self._conditions.write(server, batch.data)
            if armed.phase == "after":
                await reply.complete.wait()
        except BaseException:
            armed.count += 1  # the server was faster to fail
            raise
        if armed.phase == "after" and reply.failed:  # nothing was committed
            armed.count += 1
            self._held = None
            await self._conditions.write(self._client, reply.data)
            return
        self._conditions.cuts.append(Cut(armed.phase, "; ".join(batch.committed)))
        close(self._client, reset=self._conditions.rules.drop == "reset")
        if armed.phase == "during":  # what is the server's side of it goes on
            await reply.complete.wait()
        raise DroppedError

    def _reset(self) -> None:
        close(self._client, reset=True)
        raise DroppedError


def unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the other side has not acknowledged (tcp(7), SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def close(writer: StreamWriter, *, reset: bool = False) -> None:
    """Close a connection at once, with FIN or with RST."""
    if writer.is_closing():
        return
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


async def first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all of them until one ends, and raise what that one raises."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel(tasks)


async def cancel(tasks: "list[asyncio.Task[None]]") -> None:
    """End tasks, and see them to their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
