"""Keysets: where a row is in an order, and with it where a page begins, is told by the ordered value and the id."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, select, tuple_

from db.tables.table import Table


def in_order(table: Table, order: str, *, descending: bool, after: Sequence[ColumnElement[Any]] = ()) -> Select[Any]:
    """Return the SELECT of a table's rows in the order of a field, from its beginning or after a keyset."""
    keyset = [table.core.c[name] for name in dict.fromkeys((table.compared(order), "id"))]
    rows = select(*table.columns).order_by(*(column.desc() if descending else column for column in keyset))
    if not after:
        return rows
    row, last = tuple_(*keyset), tuple_(*after)
    return rows.where(row < last if descending else row > last)
