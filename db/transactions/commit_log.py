"""What became of a transaction whose commit was not answered.

A transaction of several statements leaves a commit record last. One that was lost in its commit is only looked up:
where there is no record a void one is left, so that the transaction can no longer be committed.
"""

from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.commit_records import NO_IDS, commit_records


async def save(session: AsyncSession, token: UUID) -> None:
    """Leave a transaction's commit record, as the last thing that it does."""
    await session.execute(insert(commit_records).values(token=token, ids=NO_IDS))


async def find(session: AsyncSession, token: UUID) -> bool:
    """Return whether a transaction was committed, once it is over; if it was not, it cannot be any more.

    What is found is written again, for the reason that commit_records.FIND is.
    """
    void = postgresql.insert(commit_records).values(token=token, ids=None)
    found = void.on_conflict_do_update(index_elements=[commit_records.c.token], set_={"ids": commit_records.c.ids})
    return await session.scalar(found.returning(commit_records.c.ids)) is not None
