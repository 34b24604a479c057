"""Conditional writes: which version a write expects (RFC 9110, section 13)."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from db.errors import VersionMismatch
from db.tables.call import Call
from db.tables.store import Store
from service.http.headers import IfMatch

T = TypeVar("T")

NO_VERSION = 'If-Match has no tag that a response had, such as "1-json" (W/"1-json" is taken for it); no other matches'


def write_at_version(
    store: Store[Any], call: Call, id: int, if_match: IfMatch, write: Callable[[Call, int | None], Awaitable[T]]
) -> Awaitable[T]:
    """Return the result of a write at an expected version. Raises NotFound, VersionMismatch, and what the write raises.

    With several versions in If-Match, or none, the row is read first; both steps then have one deadline.
    """
    if if_match is None:
        return write(call, None)
    if len(if_match) == 1:
        return write(call, next(iter(if_match)))
    return _write_at_any(store, store.bounded(call), id, if_match, write)


async def _write_at_any(
    store: Store[Any], call: Call, id: int, if_match: frozenset[int], write: Callable[[Call, int | None], Awaitable[T]]
) -> T:
    while True:
        current = await store.get(call, id)
        if current.version not in if_match:
            raise VersionMismatch([id], store.table.noun, "" if if_match else NO_VERSION)
        with suppress(VersionMismatch):  # between the read and the write it may have reached another of the versions
            return await write(call, current.version)
