"""The SQL of commit records: a write's token, inserted by its own transaction, shows that the write was committed.

Every write has a token, and inserts it into `commit_records` in the same statement. When the connection was lost before
the result, the same write is sent again under the same token: it waits for a transaction that still writes the token,
fails with a conflict if one was committed, and is executed otherwise.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, UpdateBase, bindparam, func, insert, literal_column, select

from db.models import CommitRecord, table

commit_records = table(CommitRecord)
TOKEN = "token"  # noqa: S105 - the name of an argument
NO_IDS: ColumnElement[Any] = literal_column("'{}'")
# It writes, as only writes wait for a synchronous standby: the commit found may be one that none has (see replication).
FIND = "UPDATE commit_records SET ids = ids WHERE token = $1 RETURNING ids, created_at"


def with_commit_record(source: UpdateBase) -> Select[Any]:
    """Return a write that returns ids, extended to insert its commit record; TOKEN names the additional argument."""
    written = source.cte("written")
    ids = func.array(select(written.c.id).scalar_subquery())  # array_agg costs every batch 7 µs more
    values = select(bindparam(TOKEN, type_=commit_records.c.token.type), ids)
    record = insert(commit_records).from_select(["token", "ids"], values).cte("record")
    return select(*written.c).add_cte(record)
