"""Users: their Structs, and the handlers of /users, Struct in and Struct out."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from db.tables.call import Call
from db.tables.table import Deletion, Patch, Row
from db.users import USERS
from service.context import Context
from service.http.conditional import expected_version
from service.http.headers import IfMatch
from service.http.listing import Listing
from service.http.patches import given, patches
from service.http.response import Result
from service.resources.items import ItemResponse
from service.schemas import BATCH, Id, IdsQuery, ListQuery, Timestamp, Version

UserId = Annotated[Id, Meta(description="A user's number, never used again.")]
Username = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=50,
        pattern=r"^[a-z0-9._-]*$(?!\n)",  # where `$` stands before a final line feed, too
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
        description="Write-only, stored as argon2id; null removes it. To hash it takes some 25 ms; in a batch, hundreds"
        " of them, one after the other, may take longer than a request may.",
        examples=["correct horse battery staple"],
        extra={"secret": True},
        extra_json_schema={"writeOnly": True},
    ),
]


class Secretive(Struct, frozen=True):
    """A Struct that may have a password: its repr shows no values."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class UserCreate(Secretive, frozen=True, forbid_unknown_fields=True):
    """All of a new or an existing user; a password that is absent stays."""

    username: Username
    email: Email
    name: FullName
    role: Role = "writer"
    is_active: IsActive = True
    password: Password | UnsetType = UNSET


class UserPatch(Secretive, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A merge patch (RFC 7396): what is absent stays."""

    username: Username | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    name: FullName | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    is_active: IsActive | UnsetType = UNSET
    password: Password | UnsetType = UNSET


class BatchUserPatch(UserPatch, frozen=True):
    """A merge patch for one user of a batch; with a version, the user must still be at it."""

    id: UserId
    version: Version | UnsetType = UNSET


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

    items: Annotated[list[ItemResponse], Meta(max_length=100, description="The first 100, by id.")]


class UserReadQuery(Struct, frozen=True):
    """What to embed in a user."""

    include: Annotated[Literal["items"], Meta(description="Also the items of the user.")] | UnsetType = UNSET


class UserDeleteQuery(Struct, frozen=True):
    """What becomes of the items of a user who is deleted."""

    reassign_to: Annotated[Id, Meta(description="The user who owns the items then.")] | UnsetType = UNSET


class UserQuery(ListQuery, frozen=True):
    """Which users to list."""

    order: Annotated[
        Literal["id", "-id", "username", "-username", "email", "-email", "created_at", "-created_at"],
        Meta(description="What to order by, `-` for descending; by code point, emails whatever their case."),
    ] = "id"
    username: Annotated[Username, Meta(description="Only the user with this name.")] | UnsetType = UNSET
    email: Annotated[Email, Meta(description="Only the user with this address.")] | UnsetType = UNSET
    role: Annotated[Role, Meta(description="Only users with this role.")] | UnsetType = UNSET
    is_active: Annotated[bool, Meta(description="Only users who are, or are not, active.")] | UnsetType = UNSET


UserCreateBatch = Annotated[list[UserCreate], BATCH]
UserPatchBatch = Annotated[list[BatchUserPatch], BATCH]
LISTING = Listing("/users", USERS, UserResponse)


async def create_users(
    context: Context, call: Call, body: UserCreate | UserCreateBatch
) -> UserResponse | list[UserResponse]:
    """Create a user, or a batch of them, all or nothing."""
    call = context.users.bounded(call)
    if isinstance(body, list):
        return await context.users.create_many(call, [await _row(context, call, user) for user in body])
    return await context.users.create(call, await _row(context, call, body))


async def list_users(context: Context, call: Call, query: UserQuery) -> Result[list[UserResponse]]:
    """List users."""
    return await LISTING.read(context.users, call, query)


async def update_users(context: Context, call: Call, body: UserPatchBatch) -> list[UserResponse]:
    """Update a batch of users, all or nothing."""
    call = context.users.bounded(call)
    changes = [patch._replace(values=await _stored(context, call, patch.values)) for patch in patches(body)]
    return await context.users.update_many(call, changes)


async def delete_users(context: Context, call: Call, query: IdsQuery) -> list[UserId]:
    """Delete a batch of users, none of whom owns items; unknown ids are left out of the response."""
    return await context.users.delete_many(call, query.ids)


async def read_user(
    context: Context, call: Call, id: UserId, query: UserReadQuery
) -> Result[UserResponse | UserWithItems]:
    """Read a user."""
    if query.include is UNSET:
        return Result(await context.users.get(call, id))
    user, items = await context.users.get_with_items(call, id, ItemResponse)
    return Result(UserWithItems(**asdict(user), items=items), body_tag=True)


async def replace_user(context: Context, call: Call, id: UserId, if_match: IfMatch, body: UserCreate) -> UserResponse:
    """Replace all of an existing user, but keep a password that is absent."""
    call, version = await expected_version(context.users, context.users.bounded(call), id, if_match)
    return await context.users.update(call, Patch(id, version, await _stored(context, call, given(body))))


async def update_user(context: Context, call: Call, id: UserId, if_match: IfMatch, body: UserPatch) -> UserResponse:
    """Update some fields of a user."""
    call, version = await expected_version(context.users, context.users.bounded(call), id, if_match)
    return await context.users.update(call, Patch(id, version, await _stored(context, call, given(body))))


async def delete_user(context: Context, call: Call, id: UserId, if_match: IfMatch, query: UserDeleteQuery) -> None:
    """Delete a user, who owns no items or whose items get another owner."""
    call, version = await expected_version(context.users, call, id, if_match)
    if query.reassign_to is UNSET:
        await context.users.delete(call, Deletion(id, version))
    else:
        await context.users.delete_and_reassign(call, Deletion(id, version), query.reassign_to)


async def _row(context: Context, call: Call, user: UserCreate) -> Row:
    values = await _stored(context, call, given(user))
    return tuple(values.get(name) for name in (*USERS.fields, *USERS.write_only))


async def _stored(context: Context, call: Call, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values to store: a password becomes its hash."""
    if "password" not in values:
        return values
    stored = dict(values)
    password = stored.pop("password")
    return {**stored, "password_hash": password and await context.passwords.hash(password, call.deadline)}
