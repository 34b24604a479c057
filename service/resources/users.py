"""Users: who own items, and may call the service, by their role."""

from collections.abc import Awaitable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from db.resources.users import EMBEDDED_ITEMS_MAX, USERS
from db.tables.call import Call
from db.tables.table import Deletion
from service.context import Context
from service.http.collection import Collection, Conversion
from service.http.conditional import write_at_version
from service.http.headers import IfMatch
from service.http.response import Result
from service.resources.items import ItemResponse
from service.schemas import Id, Timestamp, Version

UserId = Annotated[Id, Meta(description="A user's number, never used again.")]
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=50,
        pattern=r"^[a-z0-9._-]*\Z",  # `$` stands before a final line feed, too
        description="A name of its own, in 3 to 50 of a-z, 0-9 and `._-`.",
        examples=["ada"],
    ),
]
Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=255,
        pattern="^[^@\\x00]+@[^@\\x00]+$",  # PostgreSQL keeps no NUL
        description="An address of its own, whatever its case: one `@` with something around it, stored as given.",
        examples=["ada@example.org"],
    ),
]
FullName = Annotated[
    str, Meta(min_length=1, max_length=100, pattern="^[^\\x00]*$", description="1 to 100 characters.", examples=["Ada"])
]
Role = Annotated[Literal["reader", "writer", "admin"], Meta(description="What they may do.", examples=["writer"])]
IsActive = Annotated[bool, Meta(description="Whether they may sign in.", examples=[True])]
Password = Annotated[
    Annotated[str, Meta(min_length=8, max_length=1024)] | None,
    Meta(
        description="Write-only, stored as argon2id; what is written without one keeps it, null removes it. To hash it"
        " takes some 25 ms; in a batch, hundreds of them, one after the other, may take longer than a request may.",
        examples=["correct horse battery staple"],
        extra={"secret": True},
        extra_json_schema={"writeOnly": True},
    ),
]


class Secretive(Struct, frozen=True):
    """A Struct that may have a password: its repr shows no values."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class UserCreate(Secretive, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All of a new or an existing user; a password that is absent stays."""

    username: Username
    email: Email
    name: FullName
    role: Role = "writer"
    is_active: IsActive = True
    password: Password | UnsetType = UNSET


class UserResponse(Struct, frozen=True, gc=False):  # its fields refer to nothing, so it is in no cycle
    """A user as it is stored, without the password."""

    id: UserId
    username: Username
    email: Email
    name: FullName
    role: Role
    is_active: IsActive
    version: Version
    created_at: Timestamp
    updated_at: Timestamp


class UserWithItems(UserResponse, frozen=True):
    """A user with the items that they own."""

    items: Annotated[
        list[ItemResponse], Meta(max_length=EMBEDDED_ITEMS_MAX, description=f"The first {EMBEDDED_ITEMS_MAX}, by id.")
    ]


class UserReadQuery(Struct, frozen=True):
    """What to embed in a user."""

    include: Annotated[Literal["items"], Meta(description="Also the items of the user.")] | UnsetType = UNSET


class UserDeleteQuery(Struct, frozen=True):
    """What becomes of the items of a user who is deleted."""

    reassign_to: Annotated[Id, Meta(description="The user who owns the items then.")] | UnsetType = UNSET


async def read_user(
    context: Context, call: Call, id: UserId, query: UserReadQuery
) -> Result[UserWithItems | UserResponse]:  # clients try the forms in this order, and the second is a part of the first
    """Read one user.

    Its `ETag` tells its version. With `include=items`, the first items of the user come along, and the tag tells them,
    too.
    """
    if query.include is UNSET:
        return Result(await context.users.get(call, id))
    user, items = await context.users.get_with_items(call, id, ItemResponse)
    return Result(UserWithItems(**asdict(user), items=items), body_tag=True)


async def delete_user(context: Context, call: Call, id: UserId, if_match: IfMatch, query: UserDeleteQuery) -> None:
    """Delete a user, who owns no items or whose items get another owner.

    A user who owns items is not deleted, which is a 409, unless `reassign_to` names their next owner. With `If-Match`,
    only while the user is at a version that the client has seen; else 412.
    """

    def write(call: Call, version: int | None) -> Awaitable[None]:
        if query.reassign_to is UNSET:
            return context.users.delete(call, Deletion(id, version))
        return context.users.delete_and_reassign(call, Deletion(id, version), query.reassign_to)

    await write_at_version(context.users, call, id, if_match, write)


async def _hash(context: Context, call: Call, password: str | None) -> str | None:
    return password and await context.passwords.hash(password, call.deadline)


CONVERSIONS = {"password": Conversion("password_hash", _hash)}
COLLECTION = Collection(USERS, UserCreate, UserResponse, lambda context: context.users, CONVERSIONS)
