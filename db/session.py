"""Sessions, for transactions of several statements or several tables."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from db.batching.entry import Caller
from db.engines.database import Database, translate_errors


@asynccontextmanager
async def transaction(database: Database, *, writes: bool = True, caller: Caller = None) -> AsyncIterator[AsyncSession]:
    """Yield a session; at the end of the block flush and commit, or on any exception, cancellation included, roll back.

    The flush raises constraint errors and assigns ids while everything can still be rolled back. Once the block has
    ended without an exception, the changes are durable. Raise the errors of db.errors, Overloaded included, and
    OutcomeUnknown if the connection was lost during the commit. A block that does not write waits for no writer. Each
    caller has a turn.
    """
    engine = database.engine if writes else database.engine.execution_options(**database.read_options)
    failure: BaseException | None = None
    async with (database.locks.to_write if writes else database.locks.to_read).turn_of(caller):
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                try:
                    with translate_errors():
                        yield session
                        await session.flush()
                    with translate_errors(committing=True):
                        await session.commit()
                except BaseException as error:
                    failure = error
                    raise
        except Exception:
            # Not that of the rollback: a connection that is lost has rolled back by itself.
            if failure is not None:
                raise failure from failure.__cause__
            raise
