"""Advisory locks of PostgreSQL, each with a mark that other transactions can read while it is held."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Integer, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db.engines.row_parameters import ORDINALITY, UnnestRows

# A mark takes another place in the server's lock table, which has 64 for each connection: a larger batch has no marks.
MARKED_MAX = 32
# A mark is a shared lock of two 32-bit numbers (objsubid 2): the first 31 bits of what is locked, and the mark.
CLASS_BITS, NUMBER_BITS = 31, 60
MARKS = text(
    "SELECT classid::bigint, objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Lock(NamedTuple):
    """What is to be locked, of 60 bits, and the mark that others can read, of 31 bits."""

    number: int
    mark: int

    @property
    def marked_class(self) -> int:
        """Return the first 31 bits of the number, which the mark is put on."""
        return self.number >> (NUMBER_BITS - CLASS_BITS)


class AdvisoryLocks:
    """Locks numbers until the end of a transaction."""

    def __init__(self) -> None:
        self._rows = UnnestRows({"number": BigInteger(), "class": Integer(), "mark": Integer()})
        position, number, marked_class, mark = (
            self._rows.table.c[name] for name in (ORDINALITY, "number", "class", "mark")
        )
        # Without a mark it is null, and so is the function, which locks nothing then.
        put_mark = func.coalesce(func.pg_try_advisory_xact_lock_shared(marked_class, mark), True)
        locked = case((func.pg_try_advisory_xact_lock(number), put_mark), else_=False)
        self._try = select(position, locked)

    async def try_lock(self, session: AsyncSession, locks: Sequence[Lock]) -> list[Collection[int] | None]:
        """Return None for each lock that the transaction has now, and the marks on each that another one has."""
        is_marked = len(locks) <= MARKED_MAX
        rows = [(lock.number, lock.marked_class, lock.mark if is_marked else None) for lock in locks]
        found = sorted(map(tuple, await session.execute(self._try, self._rows.bind(rows))))
        if all(is_locked for _, is_locked in found):
            return [None for _ in locks]
        marks: dict[int, set[int]] = {}
        for marked_class, mark in await session.execute(MARKS):
            marks.setdefault(marked_class, set()).add(mark)
        return [
            None if is_locked else marks.get(lock.marked_class, set())
            for lock, (_, is_locked) in zip(locks, found, strict=True)
        ]
