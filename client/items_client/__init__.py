"""A typed client of the item service: connections are pooled, failures retried, and every write happens once."""

from msgspec import UNSET

from .client import Client
from .errors import (
    AlreadyExists,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    FieldError,
    Forbidden,
    Incompatible,
    InternalError,
    Invalid,
    ItemsError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    Unauthorized,
    Unavailable,
    VersionMismatch,
)
from .items import ItemChanges, ItemFilters, ItemOrder, Items
from .structs import Item, ItemCreate, ItemPatch, Role, User, UserCreate, UserPatch, UserWithItems
from .sync_client import SyncClient
from .tracing import traceparent
from .users import UserChanges, UserFilters, UserOrder, Users

__all__ = [
    "UNSET",
    "AlreadyExists",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "FieldError",
    "Forbidden",
    "Incompatible",
    "InternalError",
    "Invalid",
    "Item",
    "ItemChanges",
    "ItemCreate",
    "ItemFilters",
    "ItemOrder",
    "ItemPatch",
    "Items",
    "ItemsError",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "RateLimited",
    "Role",
    "SyncClient",
    "Unauthorized",
    "Unavailable",
    "User",
    "UserChanges",
    "UserCreate",
    "UserFilters",
    "UserOrder",
    "UserPatch",
    "UserWithItems",
    "Users",
    "VersionMismatch",
    "traceparent",
]
