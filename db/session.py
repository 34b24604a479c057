"""Work that touches several tables or several statements flushes, then commits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.database import Database, translate_errors


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[AsyncSession]:
    """Yield a session; on leaving, flush and commit, or on any exception, cancellation included, roll back.

    Flushing first surfaces constraint errors and assigns ids while everything can still be undone. Once the block was
    left without an exception the changes are durable. Raises the words of db.errors.
    """
    async with database.locks.to_write, AsyncSession(database.engine, expire_on_commit=False) as session:
        with translate_errors():
            yield session
            await session.flush()
        with translate_errors(committing=True):
            await session.commit()
