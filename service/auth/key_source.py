"""The sources of key sets: a URL, read over HTTPS, and a file.

The standard library is enough for one GET now and then: asyncio carries it, so that no thread may hang and the time is
bounded as a whole, and http.client reads the response. It uses no proxy, follows no redirect, and trusts the
certificates that OpenSSL does (SSL_CERT_FILE names others).
"""

import asyncio
import ssl
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult

from service.observability.current_request import trace_headers

KEY_SET_BYTES_MAX = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024
FETCH_TIMEOUT_S = 5.0
PIECE_BYTES = 64 * 1024
# How long the keys are used without a look whether there are others; as keys are replaced seldom, and unknown ones are
# looked for at once, a source need not be asked often. A file costs nothing.
URL_INTERVAL_S = 3600.0
FILE_INTERVAL_S = 10.0
OK = 200
PORTS = {"https": 443, "http": 80}


class KeySourceError(Exception):
    """A key set could not be read; the text says why."""


class KeySource(Protocol):
    """Where a key set is read."""

    @property
    def interval_s(self) -> float:
        """Return how many seconds later it is to be read again."""

    async def read(self) -> bytes:
        """Return the text of the key set. Raise KeySourceError."""


class FileSource:
    """A file."""

    interval_s = FILE_INTERVAL_S

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    async def read(self) -> bytes:
        """Return the file's content. Raise KeySourceError."""
        try:
            content = await asyncio.to_thread(self._content)
        except OSError as error:
            raise KeySourceError(error.strerror or type(error).__name__) from None
        return _bounded(content, KEY_SET_BYTES_MAX)

    def _content(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(KEY_SET_BYTES_MAX + 1)


class UrlSource:
    """A URL, whose scheme is https, or http."""

    interval_s = URL_INTERVAL_S

    def __init__(self, url: SplitResult) -> None:
        self._url = url
        self._tls = ssl.create_default_context() if url.scheme == "https" else None

    def __str__(self) -> str:
        return self._url.geturl()

    async def read(self) -> bytes:
        """Return the body of a response to a GET. Raise KeySourceError."""
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                received = await self._get()
        except TimeoutError:
            raise KeySourceError(f"there was no whole response within {FETCH_TIMEOUT_S:g} s") from None
        except OSError as error:  # also those of TLS and of names
            raise KeySourceError(str(error) or type(error).__name__) from None
        return _body(received)

    async def _get(self) -> bytes:
        url = self._url
        port = url.port or PORTS[url.scheme]
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=self._tls)
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            head = (
                f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nAccept: application/jwk-set+json, application/json\r\n"
                "Accept-Encoding: identity\r\nUser-Agent: items-service\r\nConnection: close\r\n"
            ) + "".join(f"{name}: {value}\r\n" for name, value in trace_headers())
            writer.write(f"{head}\r\n".encode("ascii"))
            received = bytearray()
            while piece := await reader.read(PIECE_BYTES):
                received += _bounded(piece, HEAD_BYTES_MAX + KEY_SET_BYTES_MAX - len(received))
            return bytes(received)
        finally:
            writer.transport.abort()


class _Received:
    """A connection whose response has been received, as http.client reads one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> BytesIO:
        """Return what was received."""
        return BytesIO(self._content)


def _body(received: bytes) -> bytes:
    """Return the body of a response. Raise KeySourceError if it is not whole, or not a 200."""
    connection: Any = _Received(received)
    response = HTTPResponse(connection, method="GET")
    try:
        response.begin()
        if response.status != OK:
            raise KeySourceError(f"the response is a {response.status}")
        return _bounded(response.read(), KEY_SET_BYTES_MAX)
    except (HTTPException, ValueError) as error:
        raise KeySourceError(f"the response cannot be read: {error!r}") from None


def _bounded(content: bytes, bytes_max: int) -> bytes:
    if len(content) > bytes_max:
        raise KeySourceError(f"it has more than {KEY_SET_BYTES_MAX} bytes")
    return content
