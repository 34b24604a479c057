"""The outcome of an ambiguous commit: whether a transaction was committed whose connection was lost meanwhile.

A transaction of several statements writes a commit record last. If its connection is lost during the commit, the record
is looked up; where there is none, a void one takes its place, so that the transaction can no longer be committed.
"""

from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.commit_records import NO_IDS, commit_records


async def save(session: AsyncSession, token: UUID) -> None:
    """Write the commit record of a transaction, as its last statement."""
    await session.execute(insert(commit_records).values(token=token, ids=NO_IDS))


async def find(session: AsyncSession, token: UUID) -> bool:
    """Return whether a transaction was committed; one that was not cannot be committed any more.

    It waits while that transaction still runs. A record that is found is written again, for the reason that
    commit_records.FIND writes it.
    """
    void = postgresql.insert(commit_records).values(token=token, ids=None)
    found = void.on_conflict_do_update(index_elements=[commit_records.c.token], set_={"ids": commit_records.c.ids})
    return await session.scalar(found.returning(commit_records.c.ids)) is not None
