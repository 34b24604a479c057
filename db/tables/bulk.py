"""Batches that one request brings: small ones that are read or created share statements, others have their own."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from db.engines.database import Connection
from db.errors import NotFound
from db.tables.refusals import all_or_nothing

BULK_IN_FLIGHT = 4  # of each batcher: while one waits for the disk, the next ones run
BATCHES_MAX = 10  # that share a statement
SHARED_ROWS_MAX = 100  # of each of them: beyond, what a statement costs is little beside what its rows do


def batch_group(batch: Sequence[Any]) -> Hashable:
    """Return what batches that may share a statement have in common: a large one is by itself."""
    return "small" if len(batch) <= SHARED_ROWS_MAX else id(batch)


async def run_alone(
    connection: Connection, operations: Sequence[Callable[..., Awaitable[Any]]], token: bytes
) -> list[Any]:
    """Run the one operation of a batch, as a token stands for one write."""
    [operation] = operations
    return [await operation(connection, token=token)]


def deleted_ids(ids: Sequence[int], errors: Sequence[Exception | None]) -> list[int]:
    """Return the ids whose rows were deleted. Raise the errors of the others, but for NotFound."""
    all_or_nothing([None if isinstance(error, NotFound) else error for error in errors])
    return [id for id, error in zip(ids, errors, strict=True) if error is None]
