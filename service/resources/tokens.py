"""Tokens: what is shown of one."""

from typing import Annotated

from msgspec import Meta, Struct

from service.schemas import Id, Timestamp, Version

TokenName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern="^[^\\x00]*$",  # PostgreSQL keeps no NUL
        description="What it is for, in 1 to 255 characters without NUL.",
        examples=["billing"],
    ),
]
Prefix = Annotated[
    str, Meta(description="The first characters of its text, by which it is known.", examples=["itm_4fXk29aB"])
]
Moment = Annotated[Timestamp | None, Meta(examples=["2026-01-31T12:00:00.000000Z"])]


class TokenResponse(Struct, frozen=True, gc=False):  # its fields refer to nothing, so it is in no cycle
    """A token as it is stored, without its secret."""

    id: Id
    user_id: Id
    name: TokenName
    prefix: Prefix
    expires_at: Annotated[Moment, Meta(description="When it expires; null: never.")]
    last_used_at: Annotated[Moment, Meta(description="When it was used last, give or take a minute; null: never.")]
    version: Version
    created_at: Timestamp
    updated_at: Timestamp
