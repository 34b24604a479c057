"""What a right answer looks like, whoever asks."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")


class WrongAnswerError(Exception):
    """Something else than the truth was answered."""


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """An item on the wire."""

    id: int
    name: str
    price: float
    in_stock: bool
    version: int
    created_at: datetime
    updated_at: datetime
    owner_id: int | None = None  # the peers have no users, and answer with a field less


def expect(truth: object, complaint: str) -> None:
    """Raise WrongAnswerError unless this is true."""
    if not truth:
        raise WrongAnswerError(complaint)


def decoded(content: bytes | None, shape: type[T]) -> T:
    """Decode a body of exactly this shape: no field missing, none too many, every type right."""
    try:
        return msgspec.json.decode(content or b"", type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongAnswerError(f"wrong body: {error}") from None
