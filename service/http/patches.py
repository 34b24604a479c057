"""Merge patches (RFC 7396): which fields a body has, for one row or for each of a batch."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec import UNSET, Struct

from db.tables.table import Patch
from service.http.problems import INVALID_BODY, FieldError, ProblemError

KEYS = {"id", "version"}


def given(body: Struct) -> dict[str, Any]:
    """Return the fields that are set, `id` and `version` aside: null is a value, and clears what it is sent for."""
    return {name: value for name in _fields(type(body)) if (value := getattr(body, name)) is not UNSET}


@cache
def _fields(kind: type[Struct]) -> list[str]:
    return [name for name in kind.__struct_fields__ if name not in KEYS]


def patches(body: Sequence[Any]) -> list[Patch]:
    """Return the patches of a batch of Structs with an id and a version. Raises a 422 for an id that occurs twice."""
    first = {each.id: index for index, each in reversed(list(enumerate(body)))}
    repeated = [index for index, each in enumerate(body) if first[each.id] != index]
    if repeated:
        errors = [FieldError(f"/{index}/id", "Expected each id once") for index in repeated]
        raise ProblemError(INVALID_BODY, "A batch holds each id once.", errors=errors)
    return [Patch(each.id, each.version or None, given(each)) for each in body]
