"""Receipts: how a write whose connection was lost is found again, and why none happens twice.

Every write has a token, and leaves it in a table of its own, in the same transaction. Whoever lost the connection
before the answer sends the same write under the same token: it waits for an attempt that still runs, fails on one that
has happened, and else happens now. What a transaction of several statements did is only looked up: where there is no
receipt, a void one is left, so that the transaction can no longer be committed.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, UpdateBase, bindparam, func, insert, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from db.models import Receipt, table

receipts = table(Receipt)
TOKEN = "token"  # noqa: S105 - the name of an argument
NO_IDS: ColumnElement[Any] = literal_column("'{}'")
# A write, as only writes wait for a synchronous standby: what is found may be a commit that none has (db.replication).
FIND = "UPDATE receipts SET ids = ids WHERE token = $1 RETURNING ids, created_at"


def with_receipt(source: UpdateBase) -> Select[Any]:
    """Let a write that returns the ids of its rows leave a receipt in the same statement; TOKEN is its argument."""
    written = source.cte("written")
    ids = func.array(select(written.c.id).scalar_subquery())  # array_agg costs every set 7 µs more
    left = select(bindparam(TOKEN, type_=receipts.c.token.type), ids)
    return select(*written.c).add_cte(insert(receipts).from_select(["token", "ids"], left).cte("receipt"))


async def leave(session: AsyncSession, token: UUID) -> None:
    """Leave a transaction's receipt, as the last thing that it does."""
    await session.execute(insert(receipts).values(token=token, ids=NO_IDS))


async def find(session: AsyncSession, token: UUID) -> bool:
    """Return whether a transaction was committed, once it is over; if it was not, it cannot be any more.

    What is found is written again, for the reason that FIND is.
    """
    void = postgresql.insert(receipts).values(token=token, ids=None)
    found = void.on_conflict_do_update(index_elements=[receipts.c.token], set_={"ids": receipts.c.ids})
    return await session.scalar(found.returning(receipts.c.ids)) is not None
