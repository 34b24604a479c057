"""Tokens: whose they are, when they were used, and who it is that comes with one or with a password."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, Text, or_, select, update

from db.batching.batcher import Batcher
from db.engines.database import BatchConnection, Connection
from db.errors import DuplicateWrite
from db.models import Token, User
from db.models import table as core_table
from db.tables.audited_store import AuditedStore, Identified
from db.tables.call import Call
from db.tables.filters import equals
from db.tables.storage import Storage
from db.tables.table import Table
from db.types import Timestamp, fold

T = TypeVar("T", bound=Identified)

TOKENS = Table(
    Token,
    noun="token",
    fields=("user_id", "name", "prefix", "expires_at", "last_used_at"),
    write_only=("digest",),
    filters={"user_id": equals("user_id")},
    owner="user_id",
    audited=("user_id", "expires_at"),
)
USER_COLUMNS = core_table(User).c


class TokenCaller(NamedTuple):
    """A token, and the user that it is for."""

    token_id: int
    digest: str  # SHA-256 in hexadecimal
    expires_at: datetime | None
    user_id: int
    role: str
    is_active: bool

    def __repr__(self) -> str:
        """Show no digest."""
        return f"TokenCaller(token_id={self.token_id}, user_id={self.user_id})"


class UserCaller(NamedTuple):
    """A user, and what their password is compared with; None: they have none."""

    user_id: int
    role: str
    is_active: bool
    password_hash: str | None

    def __repr__(self) -> str:
        """Show no hash."""
        return f"UserCaller(user_id={self.user_id})"


class Tokens(AuditedStore[T]):
    """The store of tokens. Concurrent look-ups share a statement, and equal ones a place in it."""

    def __init__(self, storage: Storage, table: Table, make_row: Callable[..., T]) -> None:
        super().__init__(storage, table, make_row)
        columns = table.core.c
        self._texts = texts = storage.database.rows(text=Text())
        user = (USER_COLUMNS.id, USER_COLUMNS.role, USER_COLUMNS.is_active)
        callers = select(columns.prefix, columns.id, columns.digest, columns.expires_at, *user)
        callers = callers.join_from(table.core, core_table(User)).where(texts.contains(columns.prefix))
        self._callers = storage.database.statement(callers.order_by(columns.id))
        users = select(USER_COLUMNS.username, USER_COLUMNS.email_folded, *user, USER_COLUMNS.password_hash)
        is_named = or_(texts.contains(USER_COLUMNS.username), texts.contains(USER_COLUMNS.email_folded))
        self._users = storage.database.statement(users.where(is_named))
        self._users.is_secret = True  # people type passwords into the field of the name
        self._uses = storage.database.rows(id=BigInteger(), used_at=Timestamp)
        self._record = storage.database.statement(self._recording())

        def batcher(name: str, run: Any) -> Batcher[BatchConnection, str, Any]:
            return Batcher(name, storage.connections, run, storage.limits, deduplicate=True, idempotent=True)

        self._callers_batcher = batcher("tokens callers", self._find_callers)
        self._users_batcher = batcher("tokens users", self._find_users)

    def find_callers(self, prefix: str, deadline: float = inf) -> Awaitable[list[TokenCaller]]:
        """Return the tokens with a prefix, in the order of their ids, each with its user; none is checked."""
        return self._callers_batcher.submit(prefix, deadline)

    async def find_user(self, username_or_email: str, deadline: float = inf) -> UserCaller | None:
        """Return the user with a username, else the one with an email in any case; None if there is none."""
        if "\0" in username_or_email:  # which PostgreSQL stores in no text, and refuses in an argument
            return None
        found: UserCaller | None = await self._users_batcher.submit(username_or_email, deadline)
        return found

    async def record_use(self, call: Call, used: Mapping[int, datetime]) -> None:
        """Record when tokens were last used, by id; an earlier time than the recorded one and an unknown id are none.

        It is no change of the token: its version and `updated_at` stay, and the audit log does not have it.
        """
        if used:
            arguments = self._uses.bind(sorted(used.items()))
            await self._bulk_write_batcher.submit(partial(self._run_record, arguments=arguments), call.deadline)

    def _recording(self) -> Any:
        """Return an UPDATE of last uses, whose rows are locked in the order of their ids, as all writes lock them."""
        core, rows = self.table.core, self._uses.table.c
        is_later = or_(core.c.last_used_at.is_(None), core.c.last_used_at < rows.used_at)
        later = select(rows.id, rows.used_at).join(core, core.c.id == rows.id).where(is_later).order_by(core.c.id)
        locked = later.with_for_update(of=core, key_share=True).cte("locked").c
        recorded = update(core).where(core.c.id == locked.id).values(last_used_at=locked.used_at)
        return recorded.returning(core.c.id)

    async def _run_record(self, connection: Connection, arguments: dict[str, Any], token: bytes) -> list[None]:
        with suppress(DuplicateWrite):  # a repeat, whose uses are recorded
            await connection.fetch(self._record, arguments, token)
        return []

    async def _find_callers(
        self, connection: BatchConnection, prefixes: Sequence[str], _token: bytes
    ) -> list[list[TokenCaller]]:
        found: dict[str, list[TokenCaller]] = {prefix: [] for prefix in prefixes}
        for prefix, *values in await connection.fetch(self._callers, self._texts.bind([(each,) for each in prefixes])):
            found[prefix].append(TokenCaller(*values))
        return [found[prefix] for prefix in prefixes]

    async def _find_users(
        self, connection: BatchConnection, names: Sequence[str], _token: bytes
    ) -> list[UserCaller | None]:
        texts = sorted({*names, *map(fold, names)})
        rows = await connection.fetch(self._users, self._texts.bind([(text,) for text in texts]))
        by_username = {username: UserCaller(*values) for username, _, *values in rows}
        by_email = {email: UserCaller(*values) for _, email, *values in rows}
        return [by_username.get(name) or by_email.get(fold(name)) for name in names]
