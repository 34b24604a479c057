"""The command `token`, for those who have the database: issue, list and revoke tokens."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from db.batching.queue import Limits
from db.engines.database import Database
from db.resources.tokens import TOKENS, Tokens
from db.resources.users import USERS, Users
from db.tables.call import Call, Origin
from db.tables.pagination import Query
from db.tables.storage import Storage
from db.tables.table import Deletion
from service.auth.principal import ADMIN
from service.auth.tokens import new_row

CALL = Call(origin=Origin("command line"))
ADMIN_EMAIL = "admin@localhost"
LISTED = 1000  # tokens that are read at a time


EXPIRES_IN_S_MAX = 10**9
NAME_CHARACTERS_MAX = 255  # of the column


class NoSuchUser(Exception):
    """A token cannot be issued, or listed, for a user; the text says why."""


class UserRow(NamedTuple):
    """A user, of whom the id alone is of use here."""

    id: int


class TokenRow(NamedTuple):
    """A token as it is stored, without its digest."""

    id: int
    user_id: int
    name: str
    prefix: str
    expires_at: datetime | None
    last_used_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


def add_token_actions(command: argparse.ArgumentParser) -> None:
    """Add what the command `token` can do to its parser."""
    add = command.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser
    action = add("issue", allow_abbrev=False, help="print a new token, which cannot be shown again")
    whose = action.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", metavar="NAME", help="of the user with this name or email")
    whose.add_argument("--admin", action="store_true", help="of the user admin, who is made if there is none")
    action.add_argument("--name", default="command line", metavar="TEXT", type=_name, help="what the token is for")
    action.add_argument("--expires-in", metavar="SECONDS", type=_seconds, help="default: never")
    action = add("list", allow_abbrev=False, help="list tokens")
    action.add_argument("--user", metavar="NAME", help="only those of the user with this name or email")
    action = add("revoke", allow_abbrev=False, help="make a token invalid")
    action.add_argument("id", type=int, help="as it is listed")


async def run(database: Database, given: argparse.Namespace) -> str:
    """Run the action that was given, and return what to print. Raise NoSuchUser and the errors of db.errors."""
    if given.action == "issue":
        return await issue(database, given.user, given.name, given.expires_in)
    if given.action == "revoke":
        await revoke(database, given.id)
        return f"The token {given.id} is revoked: no worker accepts it for longer than ITEMSVC_AUTH_CACHE_MS."
    return "\n".join(map(_line, await listed(database, given.user))) or "There is no token."


def _name(text: str) -> str:
    if not 1 <= len(text) <= NAME_CHARACTERS_MAX or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected 1 to {NAME_CHARACTERS_MAX} characters")
    return text


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= EXPIRES_IN_S_MAX:
        raise argparse.ArgumentTypeError(f"expected 1 to {EXPIRES_IN_S_MAX}")
    return int(text)


def _line(row: "TokenRow") -> str:
    times = {"created": row.created_at, "expires": row.expires_at, "last used": row.last_used_at}
    shown = (f"{name} {time:%Y-%m-%d %H:%M:%S}Z" if time else f"{name} never" for name, time in times.items())
    return f"{row.id}  user {row.user_id}  {row.prefix}…  {',  '.join(shown)}  {row.name!a}"


async def issue(database: Database, username: str | None, name: str, expires_in_s: int | None) -> str:
    """Return a new token of a user, or without one of the administrator, who is made if there is none.

    Raise NoSuchUser and the errors of db.errors.
    """
    async with _opened(database) as (users, tokens):
        user_id = (
            await _administrator_id(users, tokens)
            if username is None
            else await _user_id(tokens, username, is_issued=True)
        )
        expires_at = datetime.now(UTC) + timedelta(seconds=expires_in_s) if expires_in_s else None
        text, row = new_row(user_id, name, expires_at)
        await tokens.create(CALL, row)
    return text


async def listed(database: Database, username: str | None) -> list[TokenRow]:
    """Return the tokens of a user, or all, by id. Raise NoSuchUser and the errors of db.errors."""
    async with _opened(database) as (_, tokens):
        filters = () if username is None else (("user_id", await _user_id(tokens, username)),)
        rows: list[TokenRow] = []
        more = True
        while more:
            after = (rows[-1].id, rows[-1].id) if rows else None
            page = await tokens.page(CALL, Query(after=after, limit=LISTED, filters=filters))
            rows += page.rows
            more = page.more
    return rows


async def revoke(database: Database, id: int) -> None:
    """Delete a token. Raise NotFound and the other errors of db.errors."""
    async with _opened(database) as (_, tokens):
        await tokens.delete(CALL, Deletion(id))


@asynccontextmanager
async def _opened(database: Database) -> AsyncIterator[tuple[Users[UserRow], Tokens[TokenRow]]]:
    storage = Storage(database, Limits(), coalesce=True, batch_connections=3, idempotency_keys_max=1)
    users, tokens = Users(storage, USERS, lambda id, *_: UserRow(id)), Tokens(storage, TOKENS, TokenRow)
    async with storage:
        yield users, tokens


async def _user_id(tokens: Tokens[TokenRow], username: str, *, is_issued: bool = False) -> int:
    user = await tokens.find_user(username)
    if user is None:
        raise NoSuchUser(f"there is no user with the name or email {username}")
    if is_issued and not user.is_active:
        raise NoSuchUser(f"the user {username} may not sign in: no token of theirs would be accepted")
    return user.user_id


async def _administrator_id(users: Users[UserRow], tokens: Tokens[TokenRow]) -> int:
    user = await tokens.find_user(ADMIN)
    if user is None:
        return (await users.create(CALL, (ADMIN, ADMIN_EMAIL, "Administrator", ADMIN, True, None))).id
    if user.role != ADMIN or not user.is_active:
        what = "may not sign in" if user.role == ADMIN else f"has the role {user.role}"
        raise NoSuchUser(f"the user {ADMIN} {what}: name another one by --user")
    return user.user_id
