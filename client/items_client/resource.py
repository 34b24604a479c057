"""A resource's methods: what every collection of rows has, from requests that a Sender sends."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count
from secrets import token_hex
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from .errors import Incompatible, VersionMismatch
from .messages import Request, Response, Sender
from .retries import backoff_s

NEXT = re.compile(r'<[^>?]*\?([^>]*)>\s*;\s*rel="?next"?')
KEY_BYTES = 16


class Row(Protocol):
    """A row as it is stored."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def version(self) -> int:
        """How often it was written."""


Page = list  # in a class, `list` is its method
T = TypeVar("T", bound=Row)
C = TypeVar("C")  # what a row is created from
P = TypeVar("P")  # a change of a batch
M = TypeVar("M", bound=Mapping[str, Any])  # changes of one row


class Resource(Generic[T, C, P, M]):
    """A collection of rows.

    Every method takes `timeout`, the seconds for the whole call, in place of the client's. Writes take an
    `idempotency_key`, to repeat what ended with OutcomeUnknown; each has a new one otherwise.
    """

    def __init__(self, sender: Sender, name: str, kind: type[T], timeout_s: float) -> None:
        self._sender = sender
        self._name = name
        self._timeout_s = timeout_s
        self._row = msgspec.msgpack.Decoder(kind)
        self._rows: msgspec.msgpack.Decoder[list[T]] = msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]
        self._ids = msgspec.msgpack.Decoder(list[int])

    async def get(self, id: int, *, timeout: float | None = None) -> T:
        """Return a row. Raises NotFound."""
        return decoded(self._row, await self._read(self._deadline(timeout), id))

    async def get_many(self, ids: Sequence[int], *, timeout: float | None = None) -> list[T]:
        """Return the rows with up to 1,000 ids, in their order; those that do not exist are left out."""
        if not ids:
            return []
        return decoded(self._rows, await self._read(self._deadline(timeout), query=_ids_query(ids)))

    async def create(self, row: C, *, timeout: float | None = None, idempotency_key: str | None = None) -> T:
        """Create a row."""
        return decoded(self._row, await self._write("POST", timeout, idempotency_key, body=row))

    async def create_many(
        self, rows: Sequence[C], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[T]:
        """Create up to 1,000 rows, all or none, and return them in the same order."""
        if not rows:
            return []
        return decoded(self._rows, await self._write("POST", timeout, idempotency_key, body=rows))

    async def replace(
        self, row: T | int, by: C, *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> T:
        """Replace all of a row; one that was read only while it is at that version. Raises VersionMismatch."""
        return decoded(self._row, await self._write("PUT", timeout, idempotency_key, **address(row), body=by))

    async def update_many(
        self, patches: Sequence[P], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[T]:
        """Change up to 1,000 rows, all or none, and return them in the same order."""
        if not patches:
            return []
        return decoded(self._rows, await self._write("PATCH", timeout, idempotency_key, body=patches))

    async def delete(self, row: T | int, *, timeout: float | None = None, idempotency_key: str | None = None) -> None:
        """Delete a row; one that was read only while it is at that version. Raises VersionMismatch."""
        await self._write("DELETE", timeout, idempotency_key, **address(row))

    async def delete_many(
        self, ids: Sequence[int], *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> list[int]:
        """Delete the rows with up to 1,000 ids, and return the ids of those that there were."""
        if not ids:
            return []
        return decoded(self._ids, await self._write("DELETE", timeout, idempotency_key, query=_ids_query(ids)))

    async def read_modify_write(self, id: int, change: Callable[[T], M], *, timeout: float | None = None) -> T:
        """Read a row, write the changes that a function makes of it, and do so again if another write was faster."""
        deadline = self._deadline(timeout)
        for number in count():
            row = decoded(self._row, await self._read(deadline, id))
            left = deadline - asyncio.get_running_loop().time()
            try:
                return await self._update(row, change(row), left, None)
            except VersionMismatch:
                await asyncio.sleep(min(backoff_s(number), max(left, 0)))
        raise AssertionError

    async def _update(
        self, row: T | int, changes: Mapping[str, Any], timeout: float | None, idempotency_key: str | None
    ) -> T:
        return decoded(self._row, await self._write("PATCH", timeout, idempotency_key, **address(row), body=changes))

    async def _pages(self, parameters: Mapping[str, Any], timeout: float | None) -> AsyncIterator[Page[T]]:
        """Yield the pages of a list by the links that lead from each to the next."""
        query: str | None = _query(parameters)
        while query is not None:
            response = await self._read(self._deadline(timeout), query=query)
            yield decoded(self._rows, response)
            match = NEXT.search(response.headers.get("Link", ""))
            query = match[1] if match else None

    async def _read(self, deadline: float, id: int | None = None, query: str = "") -> Response:
        return await self._sender.send(Request("GET", self._name, deadline, id, query))

    async def _write(self, method: str, timeout: float | None, idempotency_key: str | None, **fields: Any) -> Response:
        key = token_hex(KEY_BYTES) if idempotency_key is None else idempotency_key
        request = Request(method, self._name, self._deadline(timeout), idempotency_key=key, **fields)
        return await self._sender.send(request)

    def _deadline(self, timeout: float | None) -> float:
        return asyncio.get_running_loop().time() + (self._timeout_s if timeout is None else timeout)


def address(row: Row | int) -> dict[str, int]:
    """Return the id of a row, and the version that a write expects."""
    return {"id": row} if isinstance(row, int) else {"id": row.id, "version": row.version}


def _ids_query(ids: Sequence[int]) -> str:
    return f"ids={','.join(map(str, ids))}"


def _query(parameters: Mapping[str, Any]) -> str:
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items()}
    return urlencode(texts)


D = TypeVar("D")


def decoded(decoder: "msgspec.msgpack.Decoder[D]", response: Response) -> D:
    """Return what a response has. Raises Incompatible."""
    try:
        return decoder.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Incompatible(f"The response cannot be read: {error}", status=response.status) from error
