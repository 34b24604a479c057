"""The statements around commit records: what a write leaves in its own transaction, so that it can be found again.

Every write has a token, and leaves it in a table of its own, in the same statement. When the connection was lost before
the response, the same write is sent again under the same token: it waits for an attempt that still runs, fails on one
that has happened, and else happens now.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, UpdateBase, bindparam, func, insert, literal_column, select

from db.models import CommitRecord, table

commit_records = table(CommitRecord)
TOKEN = "token"  # noqa: S105 - the name of an argument
NO_IDS: ColumnElement[Any] = literal_column("'{}'")
# A write, as only writes wait for a synchronous standby: what is found may be a commit that none has (see replication).
FIND = "UPDATE commit_records SET ids = ids WHERE token = $1 RETURNING ids"


def with_commit_record(source: UpdateBase) -> Select[Any]:
    """Return a write that returns ids, extended to leave its record in the same statement; TOKEN is its argument."""
    written = source.cte("written")
    ids = func.array(select(written.c.id).scalar_subquery())  # array_agg costs every batch 7 µs more
    left = select(bindparam(TOKEN, type_=commit_records.c.token.type), ids)
    record = insert(commit_records).from_select(["token", "ids"], left).cte("record")
    return select(*written.c).add_cte(record)
