"""The expired rows of a table, deleted in steps that are bounded by what each of them reads, not by what it finds.

Deleted rows stay in the table, and in its indexes, until PostgreSQL's vacuum: a step that looked from the beginning
each time would read all that were deleted before it, and reach the statement timeout in the end.
"""

from abc import ABC, abstractmethod
from datetime import datetime, timedelta

from sqlalchemy import Table, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db.types import seconds_ago

STEP_ROWS_MAX = 1000
STEP_PAGES_MAX = 256
STEP_S = 0.1  # a step that took longer is followed by one of half its size, as others wait for it
# Rows are visible after their `created_at`, the start of their transaction: by so much, and the lifetime, at most.
OVERLAP = timedelta(seconds=60)


class ExpiredRows(ABC):
    """Deletes the rows of a table whose `time` is over for `lifetime_s` by the database's clock, in steps.

    A step is part of the caller's transaction, and counts only if `advance` is called after its commit.
    """

    size_max: int

    def __init__(self, rows: Table, lifetime_s: int, time: str = "created_at") -> None:
        self.rows = rows
        self.size = self.size_max
        self._time = rows.c[time]
        # The database's clock is what `created_at` is from: this machine's may differ.
        self._expired = self._time < seconds_ago(lifetime_s)

    @abstractmethod
    async def step(self, session: AsyncSession) -> int:
        """Delete expired rows, as far as one step goes, and return how many."""

    @abstractmethod
    def advance(self) -> bool:
        """Go on behind the step that was committed; return whether it was the last one, and start anew then."""

    def took(self, seconds: float) -> None:
        """Fit the size of the next step to the time that this one took."""
        self.size = max(1, self.size // 2) if seconds > STEP_S else min(2 * self.size, self.size_max)

    def shrink(self) -> bool:
        """Halve the size of a step that took too long; return False if there is no smaller one."""
        self.size, before = max(1, self.size // 2), self.size
        return self.size < before


class ExpiredRowsByTime(ExpiredRows):
    """Goes through the index on `time`, the oldest row first, and never back to where rows were deleted."""

    size_max = STEP_ROWS_MAX

    def __init__(self, rows: Table, lifetime_s: int, time: str = "created_at") -> None:
        super().__init__(rows, lifetime_s, time)
        self._reached: datetime | None = None  # everything before it is deleted
        self._deleted: list[datetime] = []
        self._was_full = False

    async def step(self, session: AsyncSession) -> int:
        """Delete the oldest expired rows; those that another worker is deleting are left to it."""
        [id] = self.rows.primary_key
        expired = select(id).where(self._expired).order_by(self._time).limit(self.size)
        if self._reached is not None:
            expired = expired.where(self._time >= self._reached)
        statement = delete(self.rows).where(id.in_(expired.with_for_update(skip_locked=True))).returning(self._time)
        self._deleted = list(await session.scalars(statement))
        self._was_full = len(self._deleted) == self.size
        return len(self._deleted)

    def advance(self) -> bool:
        """Go on at the newest row that was deleted."""
        self._reached = max(self._deleted, default=self._reached)
        if self._was_full:
            return False
        if self._reached is not None:
            self._reached -= OVERLAP
        return True


class ExpiredRowsByPages(ExpiredRows):
    """Goes through the pages of a table of PostgreSQL that has no index on `created_at`, which its writes would pay.

    A range of pages is a TID Range Scan, since PostgreSQL 14.
    """

    size_max = STEP_PAGES_MAX

    def __init__(self, rows: Table, lifetime_s: int) -> None:
        super().__init__(rows, lifetime_s)
        self._page = self._reached = 0
        self._pages = 0  # of the table, when this pass through it began
        self._count = text(f"SELECT pg_relation_size('{rows.name}') / current_setting('block_size')::bigint")
        within = "ctid >= CAST(CAST(:first AS text) AS tid) AND ctid < CAST(CAST(:following AS text) AS tid)"
        self._delete = delete(rows).where(self._expired, text(within))

    async def step(self, session: AsyncSession) -> int:
        """Delete the expired rows of the next pages."""
        if self._page == 0:
            self._pages = await session.scalar(self._count) or 0
        self._reached = self._page + self.size
        pages = {"first": f"({self._page},0)", "following": f"({self._reached},0)"}
        result = await session.execute(self._delete.returning(self.rows.c.created_at), pages)
        return len(result.all())

    def advance(self) -> bool:
        """Go on with the following page."""
        is_last = self._reached >= self._pages
        self._page = 0 if is_last else self._reached
        return is_last
