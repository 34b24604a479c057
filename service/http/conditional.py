"""Conditional writes: which version a write expects (RFC 9110, section 13)."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from db.errors import VersionMismatch
from db.tables.call import Call
from db.tables.store import Store
from service.http.headers import IfMatch

T = TypeVar("T")


async def write_at_version(
    store: Store[Any], call: Call, id: int, if_match: IfMatch, write: Callable[[Call, int | None], Awaitable[T]]
) -> T:
    """Return the result of a write at an expected version. Raises NotFound, VersionMismatch, and what the write raises.

    Of several versions the row may reach the next one between the read and the write: then it is read again.
    """
    while True:
        call, version = await _expected_version(store, call, id, if_match)
        try:
            return await write(call, version)
        except VersionMismatch:
            if if_match is None or len(if_match) == 1:
                raise


async def _expected_version(store: Store[Any], call: Call, id: int, if_match: IfMatch) -> tuple[Call, int | None]:
    """Return the call to write with, and the version that the write expects. Raises NotFound and VersionMismatch.

    With several versions in If-Match, or none, the row is read first; both steps then have one deadline.
    """
    if if_match is None:
        return call, None
    if len(if_match) == 1:
        return call, next(iter(if_match))
    call = store.bounded(call)
    current = await store.get(call, id)
    if current.version not in if_match:
        raise VersionMismatch([id], store.table.noun)
    return call, current.version
