"""The refusal of a batch that is written all or nothing: one error for all members that were refused for its reason."""

from collections.abc import Sequence
from typing import TypeVar

from db.errors import AlreadyExists, NotFound, StillReferenced, UnknownReference, VersionMismatch

T = TypeVar("T")


def all_or_nothing(results: Sequence[T | Exception]) -> list[T]:
    """Return the results of a batch if none is an exception.

    Raise NotFound with every id that was not found, else VersionMismatch, StillReferenced, AlreadyExists or
    UnknownReference with every id or field that it is for, else the first exception.
    """
    errors = [result for result in results if isinstance(result, Exception)]
    if not errors:
        return [result for result in results if not isinstance(result, Exception)]
    for kind in (NotFound, VersionMismatch):
        found = [error for error in errors if isinstance(error, kind)]
        if found:
            raise kind([id for error in found for id in error.ids], found[0].noun)
    for refusal in (AlreadyExists, UnknownReference):
        placed = [(place, error) for place, error in enumerate(results) if isinstance(error, refusal)]
        if placed:
            raise refusal([(place, *path) for place, error in placed for path in error.paths], placed[0][1].noun)
    referenced = [error for error in errors if isinstance(error, StillReferenced)]
    if referenced:
        raise StillReferenced([id for error in referenced for id in error.ids], referenced[0].noun, referenced[0].by)
    raise errors[0]
