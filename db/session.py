"""Sessions, for transactions of several statements or several tables."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import Database, translate_errors


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[AsyncSession]:
    """Yield a session; at the end of the block flush and commit, or on any exception, cancellation included, roll back.

    The flush raises constraint errors and assigns ids while everything can still be rolled back. Once the block has
    ended without an exception, the changes are durable. Raise the errors of db.errors, Overloaded included, and
    OutcomeUnknown if the connection was lost during the commit.
    """
    async with database.locks.to_write, AsyncSession(database.engine, expire_on_commit=False) as session:
        with translate_errors():
            yield session
            await session.flush()
        with translate_errors(committing=True):
            await session.commit()
