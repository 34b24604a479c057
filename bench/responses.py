"""What a right response looks like, whoever asks."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")
R = TypeVar("R", bound="Row")


class WrongResponseError(Exception):
    """A response is not the truth."""


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """What every row on the wire has."""

    id: int
    version: int
    created_at: datetime
    updated_at: datetime


class Item(Row, frozen=True):
    """An item on the wire."""

    name: str
    price: float
    in_stock: bool
    owner_id: int | None


class User(Row, frozen=True):
    """A user on the wire, who has no password there."""

    username: str
    email: str
    name: str
    role: str
    is_active: bool


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
