"""What is sent and received. The service's OpenAPI document has the same fields, which a test compares."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Timestamp = Annotated[datetime, Meta(tz=True)]  # in UTC
Role = Literal["reader", "writer", "admin"]


class Item(Struct, frozen=True):
    """An item as it is stored."""

    id: int
    name: str
    price: float
    in_stock: bool
    owner_id: int | None
    version: int
    created_at: Timestamp
    updated_at: Timestamp


class ItemCreate(Struct, frozen=True, omit_defaults=True):
    """All of a new or an existing item."""

    name: str
    price: float
    in_stock: bool = True
    owner_id: int | None = None


class ItemPatch(Struct, frozen=True, omit_defaults=True):
    """Changes to one item of a batch; with a version, it must still be at it."""

    id: int
    version: int | UnsetType = UNSET
    name: str | UnsetType = UNSET
    price: float | UnsetType = UNSET
    in_stock: bool | UnsetType = UNSET
    owner_id: int | UnsetType | None = UNSET


class User(Struct, frozen=True):
    """A user as it is stored, without the password."""

    id: int
    username: str
    email: str
    name: str
    role: Role
    is_active: bool
    version: int
    created_at: Timestamp
    updated_at: Timestamp


class UserWithItems(User, frozen=True):
    """A user with the first 100 items that they own."""

    items: list[Item]


class Secretive(Struct, frozen=True):
    """A Struct that may have a password: its repr shows no values."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class UserCreate(Secretive, frozen=True, omit_defaults=True):
    """All of a new or an existing user; a password that is absent stays."""

    username: str
    email: str
    name: str
    role: Role = "writer"
    is_active: bool = True
    password: str | UnsetType | None = UNSET


class UserPatch(Secretive, frozen=True, omit_defaults=True):
    """Changes to one user of a batch; with a version, they must still be at it."""

    id: int
    version: int | UnsetType = UNSET
    username: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    password: str | UnsetType | None = UNSET
