"""A client for HTTP/1.1 (RFC 9112) that costs little, and knows what it does not know."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class NotSentError(Exception):
    """There was no connection: the request never arrived anywhere."""


class UnansweredError(Exception):
    """No whole response came: the request may have been served, or may be yet."""


class Response(NamedTuple):
    """The response to a request; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One connection, made anew when it is lost, to each of some addresses in turn."""

    def __init__(self, urls: list[str], *, first: int = 0, limit_s: float = 10.0) -> None:
        self._addresses = [(parts.hostname or "", parts.port or 80) for parts in map(urlsplit, urls)]
        self._next = first
        self._limit_s = limit_s
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Return the response to a request. Raises NotSentError, UnansweredError, both within the limit."""
        whole = False
        try:
            async with asyncio.timeout(self._limit_s):
                writer = await self._connected()
                try:
                    writer.write(written(method, path, body, headers or {}))
                    await writer.drain()
                    response = await self._read()
                except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                    raise UnansweredError(repr(error)) from error
            whole = response.headers.get("connection", "").lower() != "close"
        except TimeoutError as error:
            raise (NotSentError if self._writer is None else UnansweredError)(f"not in {self._limit_s} s") from error
        else:
            return response
        finally:
            if not whole:
                self.close()

    def close(self) -> None:
        """Close the connection; the next request has another."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _connected(self) -> asyncio.StreamWriter:
        if self._writer is None or self._reader.at_eof():
            self.close()
            host, port = self._addresses[self._next % len(self._addresses)]
            self._next += 1
            try:
                self._reader, self._writer = await asyncio.open_connection(host, port)
            except OSError as error:
                raise NotSentError(repr(error)) from error
        return self._writer

    async def _read(self) -> Response:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        _, status, *_ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if "transfer-encoding" in headers:
            raise ValueError("a response without a length")
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Response(int(status), headers, body)


def written(method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    """Return a request as it is sent."""
    fields = {"host": "items.test", **headers}
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + (body or b"")
