"""Tokens: what the programs of users come in with; they are issued, listed and revoked."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from db.errors import NotFound, NotOwner, UnknownReference
from db.resources.tokens import TOKENS
from db.resources.users import USERS
from db.tables.call import Call
from db.tables.table import Deletion
from service.auth.login import refuse
from service.auth.tokens import new_row
from service.context import Context
from service.http.admission import refuse_without_tokens
from service.http.listing import Listing
from service.http.problems import INVALID_BODY, FieldError, Refusal
from service.http.response import Result
from service.resources.users import UserId
from service.schemas import Id, PageQuery, Timestamp

LATEST = datetime.max.replace(tzinfo=UTC)  # in another zone it may be in the year 10000
LOGIN = "log-in"  # the name of a token that was issued for a password

TokenId = Annotated[Id, Meta(description="A token's number, never used again.")]
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
ExpiresAt = Annotated[
    Annotated[Timestamp | None, Meta(examples=["2036-01-31T12:00:00.000000Z"])],
    Meta(description="When it expires; null: never."),
]


class TokenCreate(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A new token."""

    name: TokenName
    expires_at: ExpiresAt = None


class TokenResponse(Struct, frozen=True, gc=False):  # its fields refer to nothing, so it is in no cycle
    """A token as it is stored, without its text."""

    id: TokenId
    user_id: UserId
    name: TokenName
    prefix: Prefix
    created_at: Timestamp
    expires_at: ExpiresAt
    last_used_at: Annotated[Moment, Meta(description="When it was used last, give or take a minute; null: never.")]


class IssuedToken(TokenResponse, frozen=True):
    """A new token, with its text."""

    token: Annotated[
        str | None,
        Meta(
            description="Its text, which is shown in this response alone. Null: the request repeats one under its"
            " `Idempotency-Key`, and the text is stored nowhere. If the first response was lost, revoke this token, and"
            " issue another one under another key.",
            examples=["itm_4fXk29aBrT0mQw7ZcV1nLs8eYhJ3vWqEuK2d"],
        ),
    ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"


class TokensQuery(PageQuery, frozen=True, kw_only=True):
    """Which tokens of a user to list."""

    order: Annotated[Literal["id", "-id"], Meta(description="What to order by, `-` for descending.")] = "id"


LISTING = Listing(TOKENS, TokenResponse, within="user_id")


def token_response(*columns: Any) -> TokenResponse:
    """Return what is shown of the columns of a token; its version is not, as nobody changes it."""
    id, user_id, name, prefix, expires_at, last_used_at, _, created_at, _ = columns
    return TokenResponse(id, user_id, name, prefix, created_at, expires_at, last_used_at)


async def issue_token(context: Context, call: Call, id: UserId, body: TokenCreate) -> IssuedToken:
    """Issue a token of a user; its text is shown in this response alone.

    A program of the user sends it as `Authorization: Bearer`. A repeat under the same `Idempotency-Key` has the token
    without its text, which is stored nowhere.
    """
    refuse_without_tokens(context)
    if body.expires_at is not None and not datetime.now(UTC) < body.expires_at <= LATEST:
        text = "Expected a time that is not over, at most the year 9999 in UTC"
        raise Refusal(INVALID_BODY, "The token could never be used.", [FieldError("/expires_at", text)])
    return await _issue(context, call, id, body.name, body.expires_at)


async def list_tokens(context: Context, call: Call, id: UserId, query: TokensQuery) -> Result[list[TokenResponse]]:
    """List the tokens of a user, without their texts.

    Each is known by its `prefix`, the first characters of its text. An expired one is listed for a week more.
    """
    page = await LISTING.read(context.tokens, call, query, id)
    if not page.value:
        await context.users.get(call, id)  # there may be no such user
    return page


async def revoke_token(context: Context, call: Call, id: TokenId) -> None:
    """Revoke a token: it is deleted.

    It counts no more at once on the worker that serves this, and within some seconds everywhere.
    """
    try:
        await context.tokens.delete(call, Deletion(id))
    except NotOwner as error:  # which others are not to know
        raise NotFound(error.ids, TOKENS.noun) from None
    if context.authenticator is not None:
        context.authenticator.revoke(id)


async def log_in(context: Context, call: Call) -> IssuedToken:
    """Issue a token of the caller's own for a name and a password, for an hour or as the service is set.

    The name is a username or an email. Whatever is wrong with either, the response is the same 401, after the same
    time; after too many wrong ones it is a 429.
    """
    assert call.caller is not None  # noqa: S101 - narrows the type
    expires_at = datetime.now(UTC) + timedelta(seconds=context.settings.login_token_lifetime_s)
    try:
        return await _issue(context, call, call.caller, LOGIN, expires_at)
    except NotFound:  # deleted since the password was verified
        refuse()


async def _issue(context: Context, call: Call, user_id: int, name: str, expires_at: datetime | None) -> IssuedToken:
    text, row = new_row(user_id, name, expires_at)
    try:
        stored = await context.tokens.create(_without_text(call), row)
    except UnknownReference:
        raise NotFound([user_id], USERS.noun) from None
    return IssuedToken(**asdict(stored), token=text)


def _without_text(call: Call) -> Call:
    """Return a call whose response, as it is stored for repeats, says that there was a text."""
    key = call.idempotency
    if key is None:
        return call

    def encode(result: Any) -> bytes:
        is_row = isinstance(result, TokenResponse)
        return key.encode_response(IssuedToken(**asdict(result), token=None) if is_row else result)

    return call._replace(idempotency=key._replace(encode_response=encode))
