"""Batches that one request brings, each a member of a batcher's batch: small ones share statements."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from db.engines.database import Connection
from db.errors import NotFound
from db.tables.refusals import all_or_nothing

BULK_IN_FLIGHT = 4  # while one bulk write waits for the disk, the next ones run; one connection is not theirs
BATCHES_MAX = 10  # that share a statement
SHARED_ROWS_MAX = 100  # of each of them: beyond, what a statement costs is little beside what its rows do


def batch_group(batch: Sequence[Any]) -> Hashable:
    """Return what batches that may share a statement have in common: a large one is by itself."""
    return "small" if len(batch) <= SHARED_ROWS_MAX else id(batch)


async def run_each(
    connection: Connection, operations: Sequence[Callable[..., Awaitable[Any]]], token: bytes
) -> list[Any]:
    """Run operations one after the other; of those that write there is one, as they have one token."""
    return [await operation(connection, token=token) for operation in operations]


def deleted_ids(ids: Sequence[int], errors: Sequence[Exception | None]) -> list[int]:
    """Return the ids whose rows were deleted. Raise the errors of the others, but for NotFound."""
    all_or_nothing([None if isinstance(error, NotFound) else error for error in errors])
    return [id for id, error in zip(ids, errors, strict=True) if error is None]
