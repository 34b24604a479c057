"""Owners: what a caller who writes its own rows alone may make of the field that says whose a row is.

That the rows which it changes are its own, or nobody's, is a condition of the statement that writes them.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import replace

from service.http.problems import FieldError, ProblemError, not_owner

C = TypeVar("C", bound=Struct)


def of_caller(noun: str, field: str, caller: int, bodies: Sequence[C], *, in_batch: bool) -> list[C]:
    """Return what is created, the caller's where no owner is sent; null is nobody. Raise a 403 for another's."""
    created = []
    for body in bodies:
        owner = getattr(body, field)
        if owner is not None and owner is not UNSET and owner != caller:
            refuse_others(noun, field, caller, (getattr(each, field) for each in bodies), in_batch=in_batch)
        created.append(replace(body, **{field: caller}) if owner is UNSET else body)
    return created


def refuse_others(noun: str, field: str, caller: int, owners: Iterable[Any], *, in_batch: bool) -> None:
    """Raise a 403 with a pointer to each owner that is sent and is neither the caller nor null."""
    errors = [
        FieldError(f"/{place}/{field}" if in_batch else f"/{field}", "Expected the id of the caller, or null")
        for place, owner in enumerate(owners)
        if owner is not UNSET and owner is not None and owner != caller
    ]
    if errors:
        raise ProblemError(not_owner(noun), f"The {noun} would have another owner.", errors)
