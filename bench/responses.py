"""What a right response looks like, whoever asks."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class WrongResponseError(Exception):
    """A response is not the truth."""


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """An item on the wire."""

    id: int
    name: str
    price: float
    in_stock: bool
    version: int
    created_at: datetime
    updated_at: datetime
    owner_id: int | None = None  # the peers have no users, and their responses have a field less


def expect(truth: object, complaint: str) -> None:
    """Raise WrongResponseError unless this is true."""
    if not truth:
        raise WrongResponseError(complaint)


def decoded(content: bytes | None, shape: type[T]) -> T:
    """Decode a body of exactly this shape: no field missing, none too many, every type right."""
    try:
        return msgspec.json.decode(content or b"", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongResponseError(f"wrong body: {error}") from None
