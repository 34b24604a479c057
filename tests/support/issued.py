"""Users and their tokens, stored behind the service's back."""

from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, insert, select, update

from db.engines.engine import open_database
from db.models import Token, User
from db.models import table as core_table
from service.auth.token_text import digest_of, new_token

USERS: Table = core_table(User)
TOKENS: Table = core_table(Token)


async def _run(database_url: str, statement: Any) -> list[Any]:
    database = open_database(database_url)
    try:
        async with database.engine.begin() as connection:
            result = await connection.execute(statement)
            return list(result) if result.returns_rows else []
    finally:
        await database.close()


async def store_user(database_url: str, username: str, role: str) -> int:
    """Store a user, and return the id."""
    email = f"{username}@example.org"
    values = {"username": username, "email": email, "email_folded": email, "name": username, "role": role}
    [(id,)] = await _run(database_url, insert(USERS).values(is_active=True, **values).returning(USERS.c.id))
    return int(id)


async def issue(database_url: str, user_id: int, expires_at: datetime | None = None) -> str:
    """Store a new token, and return its text."""
    text = new_token()
    stored = digest_of(text)
    assert stored is not None
    values = {"user_id": user_id, "name": "test", "expires_at": expires_at, **stored._asdict()}
    await _run(database_url, insert(TOKENS).values(**values))
    return text


async def revoke(database_url: str, text: str) -> None:
    """Delete a token."""
    stored = digest_of(text)
    assert stored is not None
    await _run(database_url, delete(TOKENS).where(TOKENS.c.digest == stored.digest))


async def change_user(database_url: str, user_id: int, **values: Any) -> None:
    """Change a user."""
    await _run(database_url, update(USERS).where(USERS.c.id == user_id).values(**values))


async def last_uses(database_url: str, user_id: int) -> list[datetime | None]:
    """Return when each token of a user was used last."""
    found = select(TOKENS.c.last_used_at).where(TOKENS.c.user_id == user_id).order_by(TOKENS.c.id)
    return [row[0] for row in await _run(database_url, found)]
